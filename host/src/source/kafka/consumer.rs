//! The loop of a Kafka source: serve the group, do what the lanes ask, and bring them records while they have room.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::commit::Commits;
use super::committer::Committer;
use super::context::{Context, Event, Noted, let_go};
use super::fetch::{Fetcher, share};
use super::prove::{Answer, Prover, Provers, Question, code};
use super::revoking::Revoking;
use super::{KafkaSource, client, watch};
use crate::config::KafkaClient;
use crate::source::queue::Bell;
use crate::source::{Closed, Control, Counted, LaneQueue, TopicFacts, TopicPartition};

/// How long the loop rests when there is nothing to do; a record that comes in wakes it at once.
const REST: Duration = Duration::from_millis(10);
/// How long a partition that was not proved, or not found, is left alone.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a rebalance waits for the lanes. Far below the session's timeout: the group waits as well.
const RELEASE: Duration = Duration::from_secs(5);
/// How long the end waits for the lanes.
const LAST_RELEASE: Duration = Duration::from_secs(10);
/// How long leaving the group may take. The client is known to hang there at times, and then is left behind.
const CLOSE: Duration = Duration::from_secs(5);

/// Runs a source to its end.
pub(super) fn run(
    source: &KafkaSource,
    lanes: &[Arc<LaneQueue>],
    control: &Receiver<Control>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let noted = Arc::new(Noted::lasting(source.config.session()));
    let bell = Arc::new(Bell::default());
    let member = Arc::new(source.member(&noted)?);
    let fetcher = Fetcher::new(source.fetcher(&noted, share(0))?, share(0), bell.clone());
    for lane in lanes {
        lane.ring_for_room(bell.clone());
    }
    let _watching = watch::start(source, fetcher.client(), noted.clone())?;
    let topics: Vec<_> = source.topics.iter().map(String::as_str).collect();
    member.subscribe(&topics).map_err(|error| anyhow!("cannot subscribe to {}: {error}", topics.join(", ")))?;

    let (answer, answers) = mpsc::channel();
    let client = source.config.client.clone();
    let prover = Prover {
        member: member.clone(),
        client: client.clone(),
        noted: noted.clone(),
        bell: bell.clone(),
        fetcher: fetcher.client(),
        count: source.count,
    };
    let provers = Provers::start(&prover, &answer)?;
    let committer = Committer::start(member.clone(), &noted, client.clone())?;
    let mut running = Running {
        source,
        lanes,
        control,
        client,
        member,
        fetcher,
        noted,
        bell,
        provers,
        answers,
        held: HashMap::new(),
        order: VecDeque::new(),
        owed: HashMap::new(),
        again: Vec::new(),
        revoking: None,
        commits: Commits::new(),
        committer,
        assignments: 0,
        topics: HashMap::new(),
    };
    let mut ended = Ok(Flow::Goes);
    while !stop.load(Ordering::Relaxed) && matches!(ended, Ok(Flow::Goes)) {
        ended = running.turn();
    }
    let released = running.release_all();
    running.close();
    ended.map(drop).and(released)
}

/// Whether there is anybody to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Goes,
    /// The lanes have stopped.
    Ended,
}

/// A partition that the group gave to this process.
#[derive(Debug)]
struct Held {
    lane: usize,
    /// The number of the assignment, and of each time it is proved anew; 0 when it was given back, or waits to be proved.
    number: Arc<AtomicU64>,
    /// What the commit that proves it is to count; nothing when that was done.
    counted: Option<Counted>,
    /// Whether it has been told that it cannot be proved.
    told: bool,
}

struct Running<'a> {
    source: &'a KafkaSource,
    lanes: &'a [Arc<LaneQueue>],
    control: &'a Receiver<Control>,
    client: KafkaClient,
    member: Arc<BaseConsumer<Context>>,
    fetcher: Fetcher,
    noted: Arc<Noted>,
    bell: Arc<Bell>,
    provers: Provers,
    answers: Receiver<Answer>,
    held: HashMap<TopicPartition, Held>,
    /// The partitions that are held, the next one to serve first.
    order: VecDeque<TopicPartition>,
    /// The releases that a lane has not answered yet. Until it has, the partition stays with that lane, since what it
    /// says may be about the time before.
    owed: HashMap<TopicPartition, (usize, u32)>,
    /// What is to be proved, and when.
    again: Vec<(Instant, TopicPartition)>,
    revoking: Option<Revoking>,
    commits: Commits,
    committer: Committer,
    assignments: u64,
    /// What the topics were when a partition of them was proved last.
    topics: HashMap<Arc<str>, TopicFacts>,
}

impl Running<'_> {
    fn turn(&mut self) -> anyhow::Result<Flow> {
        self.serve()?;
        while self.revoking.is_none()
            && let Some(event) = self.noted.next()
        {
            self.see_to(event)?;
        }
        self.agree(false);
        self.doubt()?;
        self.take_answers()?;
        self.ask_again();
        self.commit()?;
        let busy = match self.deliver() {
            Ok(busy) => busy,
            Err(failure) if failure.is::<Closed>() => return Ok(Flow::Ended),
            Err(failure) => return Err(failure),
        };
        if !busy {
            self.bell.wait(REST);
            self.fetcher.look_at_all();
        }
        self.obey()
    }

    /// Polls the clients.
    fn serve(&mut self) -> anyhow::Result<()> {
        for _ in 0..8 {
            match self.member.poll(Duration::ZERO) {
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    let remedy = client::remedy(code).map_or(String::new(), |remedy| format!("; {remedy}"));
                    bail!("Kafka ({}) has put this client out: {code}{remedy}", self.client.brokers.shown());
                }
                Some(_) => {}
                None => break,
            }
        }
        self.fetcher.serve()?;
        self.source.status.set_away(self.noted.is_away());
        self.noted.failure().map_or(Ok(()), Err)
    }

    fn see_to(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Assigned(partitions) => {
                self.noted.answered(&self.client);
                self.source.status.settle();
                for partition in partitions {
                    self.assign(partition);
                }
                self.tell_held();
                self.fetcher.fetch_for(self.held.len(), |share| self.source.fetcher(&self.noted, share))?;
            }
            Event::Revoked { partitions, leases, lost } => {
                self.revoke(&partitions)?;
                let session = self.noted.leases.membership.session();
                self.revoking = Some(Revoking::new(partitions, leases, lost, (RELEASE, session)));
            }
        }
        Ok(())
    }

    /// Takes the outcome of the last commit, and makes the next one.
    fn commit(&mut self) -> anyhow::Result<()> {
        if let Some(outcome) = self.committer.take() {
            if let Err(code) = outcome
                && let Some(remedy) = client::remedy(code)
            {
                bail!("Kafka ({}) takes no commit: {code}; {remedy}", self.client.brokers.shown());
            }
            self.commits.ended(outcome);
        }
        self.committer.turn(&mut self.commits);
        Ok(())
    }

    /// Takes a partition on: a lane is chosen, and membership is proved before that learns of it.
    fn assign(&mut self, partition: TopicPartition) {
        let lane = match self.owed.get(&partition) {
            Some((lane, _)) => *lane,
            None => {
                let load = |lane: &usize| self.held.values().filter(|held| held.lane == *lane).count();
                (0..self.lanes.len()).min_by_key(load).unwrap_or(0)
            }
        };
        let number = Arc::new(AtomicU64::new(0));
        self.held.insert(partition.clone(), Held { lane, number, counted: Some(Counted::Claim), told: false });
        self.order.push_back(partition.clone());
        self.ask(partition);
    }

    fn tell_held(&self) {
        self.source.status.assigned(self.held.keys());
    }

    fn ask(&mut self, partition: TopicPartition) {
        let Some(held) = self.held.get_mut(&partition) else { return };
        self.noted.claimed.remove(&partition);
        // The commit that is under way could overtake the one that proves the partition: ask when it has ended.
        if self.committer.is_committing(&partition) {
            held.number.store(0, Ordering::Release);
            self.again.push((Instant::now(), partition));
            return;
        }
        self.assignments += 1;
        held.number.store(self.assignments, Ordering::Release);
        let newest = self.commits.hand_over(&partition);
        let (number, current, counted) = (self.assignments, held.number.clone(), held.counted);
        self.provers.ask(Question { partition, number, current, counted, newest }, held.told);
    }

    fn ask_again(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.again.extract_if(.., |(when, _)| *when <= now).collect();
        due.into_iter().for_each(|(_, partition)| self.ask(partition));
    }

    /// Has the lanes claim what was proved.
    fn take_answers(&mut self) -> anyhow::Result<()> {
        while let Ok((partition, number, answer)) = self.answers.try_recv() {
            let is_current = |held: &&mut Held| held.number.load(Ordering::Acquire) == number;
            let Some(held) = self.held.get_mut(&partition).filter(is_current) else { continue };
            self.commits.take_over(&partition, answer.as_ref().ok().and_then(|assigned| assigned.committed.as_ref()));
            match answer {
                // A lane that has stopped is seen where records are brought to it.
                Ok(assigned) => {
                    held.counted = None;
                    held.told = false;
                    if let Some(topic) = &assigned.topic {
                        let name = &partition.topic;
                        let before = self.topics.insert(name.clone(), topic.clone());
                        // The client would ask for the new topic under the old one's leader epochs.
                        if before.is_some_and(|before| topic.is_another(&before)) {
                            self.fetcher.renew(|share| self.source.fetcher(&self.noted, share))?;
                        }
                        self.noted.claimed.insert(partition, topic.clone());
                    }
                    drop(self.lanes[held.lane].assign(assigned));
                }
                Err(failure) => {
                    if let Some(remedy) = code(&failure).and_then(client::remedy) {
                        return Err(failure.context(remedy));
                    }
                    if !std::mem::replace(&mut held.told, true) {
                        tracing::warn!(%partition, "cannot be claimed yet: {failure:#}; trying again");
                    }
                    self.again.push((Instant::now() + ASK_AGAIN, partition));
                }
            }
        }
        Ok(())
    }

    /// Brings records to the lanes that have room. Whether there were any.
    fn deliver(&mut self) -> anyhow::Result<bool> {
        let mut busy = false;
        // So that none is always the last to find room.
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
        for partition in &self.order {
            if !self.fetcher.is_ready(partition) {
                continue;
            }
            let Some(held) = self.held.get(partition) else { continue };
            let lane = &self.lanes[held.lane];
            let room = lane.room()?;
            if room.records == 0 || room.bytes == 0 {
                continue;
            }
            let fetched = self.fetcher.take(partition, room)?;
            busy |= fetched.more || !fetched.records.is_empty();
            if !fetched.records.is_empty() {
                lane.give(fetched.records)?;
            }
            if let Some((offset, claim)) = fetched.reached {
                lane.reach(partition, offset, claim)?;
            }
            if fetched.torn {
                // The claim says what is lost, and whether that matters.
                tracing::info!(%partition, "the broker does not have the offset that comes next; claiming again");
                self.again.push((Instant::now() + ASK_AGAIN, partition.clone()));
            }
        }
        Ok(busy)
    }

    /// Does what the lanes ask for.
    fn obey(&mut self) -> anyhow::Result<Flow> {
        loop {
            match self.control.try_recv() {
                Ok(Control::Begin { partition, offset, claim }) => {
                    let Some(held) = self.held.get(&partition) else { continue };
                    if !self.owed.contains_key(&partition) {
                        self.lanes[held.lane].forget(&partition);
                        self.fetcher.begin(&partition, offset, claim)?;
                    }
                }
                Ok(Control::ClaimAgain { partition }) => self.claim_again(partition, None)?,
                Ok(Control::Try { partition }) => self.claim_again(partition, Some(Counted::Trial))?,
                Ok(Control::Durable { partition, offset, metadata }) => {
                    let leaving = |revoking: &Revoking| revoking.partitions.contains(&partition);
                    // What a lane says before it has released a partition is of the time when it held it: somebody else
                    // may have come further since.
                    let holds = self.held.contains_key(&partition) && !self.owed.contains_key(&partition);
                    if holds || self.revoking.as_ref().is_some_and(leaving) {
                        self.commits.durable(partition, offset, metadata);
                    }
                }
                Ok(Control::Released { partition }) => {
                    if let Some((_, owed)) = self.owed.get_mut(&partition) {
                        *owed -= 1;
                        if *owed == 0 {
                            self.owed.remove(&partition);
                        }
                    }
                }
                // There is no end to drain.
                Ok(Control::Drained | Control::Ended) => {}
                Err(TryRecvError::Empty) => return Ok(Flow::Goes),
                Err(TryRecvError::Disconnected) => return Ok(Flow::Ended),
            }
        }
    }

    /// Has the partitions claimed again whose topic or log does not seem to be what was claimed.
    fn doubt(&mut self) -> anyhow::Result<()> {
        for (partition, why) in self.noted.claimed.take_doubted() {
            if self.noted.claimed.remove(&partition) {
                tracing::info!(%partition, why, "claiming the partition again");
                self.claim_again(partition, None)?;
            }
        }
        Ok(())
    }

    /// Gives nothing more of a partition until it is proved and claimed once more; the commit may have to count that.
    fn claim_again(&mut self, partition: TopicPartition, counts: Option<Counted>) -> anyhow::Result<()> {
        let Some(held) = self.held.get_mut(&partition) else { return Ok(()) };
        held.counted = counts.or(held.counted);
        self.lanes[held.lane].forget(&partition);
        self.fetcher.stop(&partition)?;
        self.ask(partition);
        Ok(())
    }

    /// Stops the intake of these partitions, and tells their lanes.
    fn revoke(&mut self, partitions: &[TopicPartition]) -> anyhow::Result<()> {
        for partition in partitions {
            let Some(held) = self.held.remove(partition) else { continue };
            held.number.store(0, Ordering::Release);
            self.noted.claimed.remove(partition);
            self.fetcher.stop(partition)?;
            if self.lanes[held.lane].revoke(partition).is_ok() {
                self.owed.entry(partition.clone()).or_insert((held.lane, 0)).1 += 1;
            }
        }
        self.order.retain(|partition| !partitions.contains(partition));
        self.again.retain(|(_, partition)| !partitions.contains(partition));
        self.tell_held();
        Ok(())
    }

    /// Agrees to a revocation when the lanes have released the partitions, or have had their time.
    fn agree(&mut self, at_once: bool) {
        let released = |revoking: &mut Revoking| {
            let owed = |partition: &&TopicPartition| self.owed.contains_key(*partition);
            let waits = revoking.is_publishing() || revoking.partitions.iter().any(|partition| owed(&partition));
            at_once || revoking.is_late() || !waits
        };
        if let Some(revoking) = self.revoking.take_if(released) {
            self.finish(&revoking);
            let_go(&self.member);
        }
    }

    /// Commits what is durable of partitions that go. What others own by now is theirs to commit, and a commit to a
    /// cluster that is away would only be waited for.
    fn finish(&mut self, revoking: &Revoking) {
        let commit = !revoking.lost && !self.noted.is_away();
        if commit && let Some(outcome) = self.committer.wait() {
            self.commits.ended(outcome);
        }
        // A lane that has not answered in time waits for a store, or is slow: the process has not died of the records.
        let survived = |metadata: &str| (self.source.count)(metadata, Counted::Survived);
        self.commits.finish(&self.member, &revoking.partitions, commit, survived);
    }

    /// Has every lane release what it holds, waits for that within bounds, and commits what is durable then.
    fn release_all(&mut self) -> anyhow::Result<()> {
        let leases = &self.noted.leases;
        let mut held = leases.held(self.held.keys());
        let waits = self.revoking.take_if(|revoking| !revoking.lost && revoking.is_publishing());
        self.agree(true);
        let mut partitions: Vec<_> = self.held.keys().cloned().collect();
        let revoked = self.revoke(&partitions);
        if let Some(waits) = waits {
            partitions.extend(waits.partitions);
            held.extend(waits.leases);
        }
        let session = self.noted.leases.membership.session();
        self.revoking = Some(Revoking::new(partitions, held, false, (LAST_RELEASE, session)));
        loop {
            let served = self.serve();
            let flow = self.obey();
            let lanes = self.lanes;
            self.owed.retain(|_, (lane, _)| lanes[*lane].room().is_ok());
            let late = self.revoking.as_ref().is_none_or(Revoking::is_late);
            // What a lane has given up to publish may still be on its way when that has ended.
            let is_publishing = self.revoking.as_ref().is_some_and(Revoking::is_publishing);
            let waits = is_publishing || !self.owed.is_empty() && matches!(flow, Ok(Flow::Goes));
            if late || served.is_err() || !waits {
                break;
            }
            self.bell.wait(REST);
        }
        if let Some(revoking) = self.revoking.take() {
            self.finish(&revoking);
        }
        revoked
    }

    /// Leaves the group.
    fn close(self) {
        let Self { member, fetcher, noted, provers, committer, .. } = self;
        noted.close();
        noted.leases.end_all();
        // It may be that the group waits for an answer already.
        let_go(&member);
        let (closed, closing) = mpsc::channel();
        let close = move || {
            drop(fetcher);
            provers.end();
            committer.end();
            drop(member);
            let _ = closed.send(());
        };
        let started = thread::Builder::new().name("tidegate-close".into()).spawn(close);
        if started.is_err() || closing.recv_timeout(CLOSE).is_err() {
            tracing::warn!("the Kafka client takes long to leave its group; going on without waiting for it");
        }
    }
}
