//! A write: the messages of a batch and the row of the ledger, in one transaction.
//!
//! The row goes last, when every message is acknowledged: from then on until the commit nobody can read the ledger topic to
//! its end. Where the answer to a commit is lost, a new producer ends the transaction, and the ledger then shows whether it
//! was committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Key, Row, history_value, json};
use super::transaction::{Broken, Transactional};
use super::{Owner, Shared};
use crate::sink::kafka::failure::Failure;
use crate::sink::kafka::producer::{Outgoing, headers_of};
use crate::sink::kafka::{ALONE, Message, messages_of, reserved, worse};
use crate::sink::{BadWrite, LedgerKey, SinkError, Standing, Step, Token, Write, Written, now};

/// How often a write is tried at once.
const TRIES: usize = 3;
/// How long a claim that has fenced this producer may take to write its token.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How often to check for it.
const LOOK: Duration = Duration::from_millis(50);

/// A row that may have been written.
#[derive(Debug)]
pub(super) struct Unsettled {
    row: Row,
    from: u64,
}

/// How a transaction ended.
enum Ended {
    Committed,
    Rejected(Vec<BadWrite>),
    /// Another producer has been opened.
    Fenced,
    /// Whether it was committed is unknown.
    Unsettled(SinkError),
}

/// The outcome of one pass over the messages.
enum Pass {
    /// Each is acknowledged.
    Through,
    /// Another pass has to tell which are bad.
    Again,
}

impl Shared {
    /// Takes a partition over.
    pub(super) async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let pipeline = key.pipeline.clone();
        if !self.reader.read_for_claim(move |ledger| ledger.pipelines.contains(&pipeline)).await? {
            return Err(SinkError::Stop(format!(
                "the ledger topic {:?} does not know pipeline {}: it was not prepared",
                self.ledger_topic, key.pipeline
            )));
        }
        let owner = self.owner(key);
        let mut owner = owner.lock().await;
        *owner = Owner::default();
        let producer = self.open(key).await?;
        let (reader, of) = (&self.reader, key.clone());
        let before = reader.read_for_claim(move |ledger| ledger.rows.get(&of).cloned()).await?;
        let row = Row::claimed(before.as_ref(), token, start);
        let standing = row.standing(before.is_some());
        self.enter(&producer, vec![(Key::row(&self.name, key), json(&row))]).await?;
        *owner = Owner { producer: Some(producer), row: Some(row), unsettled: None };
        Ok(standing)
    }

    /// Executes a step.
    pub(super) async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        let messages = messages_of(writes)?;
        let Some(owner) = self.known_owner(step.key) else {
            let row = self.row(step.key).await?;
            return Ok(row.map_or(Written::LedgerMissing, |row| row.refuses(step)));
        };
        let mut owner = owner.lock().await;
        for _ in 0..TRIES {
            let producer = match owner.producer.take() {
                Some(producer) => producer,
                // Another producer would fence the one who owns the partition.
                None if owner.row.as_ref().is_some_and(|row| row.token() != step.token) => {
                    return self.refuse(&mut owner, step).await;
                }
                None => {
                    let producer = self.open(step.key).await?;
                    owner.row = self.row(step.key).await?;
                    if owner.settle(step) {
                        owner.producer = Some(producer);
                        return Ok(Written::AlreadyApplied);
                    }
                    producer
                }
            };
            let Some(row) = owner.row.clone().filter(|row| row.admits(step)) else {
                owner.producer = Some(producer);
                return self.refuse(&mut owner, step).await;
            };
            let bad = reserved(&messages, Some(&self.ledger_topic));
            if !bad.is_empty() {
                owner.producer = Some(producer);
                return Ok(Written::Rejected(bad));
            }
            // Where this future ends before the transaction does, the next write opens another producer.
            let (after, changed) = row.after(step, now());
            owner.unsettled = Some(Unsettled { row: after.clone(), from: step.from });
            match self.transact(&producer, step, &messages, &after, changed).await {
                Ok(Ended::Committed) => {
                    *owner = Owner { producer: Some(producer), row: Some(after), unsettled: None };
                    return Ok(Written::Applied);
                }
                Ok(Ended::Rejected(bad)) => {
                    (owner.producer, owner.unsettled) = (Some(producer), None);
                    return Ok(Written::Rejected(bad));
                }
                Ok(Ended::Fenced) => {
                    drop(producer);
                    if let Some(written) = self.after_fencing(&mut owner, step).await? {
                        return Ok(written);
                    }
                }
                // The next try opens another producer, and asks the ledger.
                Ok(Ended::Unsettled(why)) => return Err(why),
                Err(why) => {
                    // It is aborted, and the producer as good as before.
                    (owner.producer, owner.unsettled) = (Some(producer), None);
                    return Err(why);
                }
            }
        }
        Err(SinkError::Retry("other producers come between again and again".into()))
    }

    /// What the ledger says to a step that the row does not let through, which this process knows.
    async fn refuse(&self, owner: &mut Owner, step: &Step<'_>) -> Result<Written, SinkError> {
        owner.row = self.row(step.key).await?;
        match &owner.row {
            None => Ok(Written::LedgerMissing),
            Some(row) if row.admits(step) => Err(SinkError::Retry("the ledger was set back just now".into())),
            Some(row) => Ok(row.refuses(step)),
        }
    }

    /// Waits for the token of the claim that has fenced this producer. Where none comes, it was a reader that aborted the
    /// transaction, and this process goes on.
    async fn after_fencing(&self, owner: &mut Owner, step: &Step<'_>) -> Result<Option<Written>, SinkError> {
        let begun = Instant::now();
        loop {
            match self.row(step.key).await? {
                None => return Ok(Some(Written::LedgerMissing)),
                Some(row) if row.token() != step.token => {
                    // Nothing of it is this process's any more.
                    *owner = Owner { producer: None, row: Some(row), unsettled: None };
                    return Ok(Some(Written::Fenced));
                }
                Some(_) if begun.elapsed() > GRACE => return Ok(None),
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// A producer for a partition: what earlier ones have left open is ended by that.
    async fn open(&self, key: &LedgerKey) -> Result<Transactional, SinkError> {
        let id = Key::row(&self.name, key).transactional_id(&self.ledger_topic);
        Transactional::open(&self.settings, &id).await
    }

    /// The row of a partition.
    pub(super) async fn row(&self, key: &LedgerKey) -> Result<Option<Row>, SinkError> {
        let key = key.clone();
        self.reader.read(move |ledger| ledger.rows.get(&key).cloned()).await
    }

    /// Writes entries of the ledger in a transaction of their own.
    pub(super) async fn enter(&self, producer: &Transactional, entries: Vec<(Key, String)>) -> Result<(), SinkError> {
        let failed = |broken| match broken {
            Broken::Fenced => SinkError::Retry("another process writes the same entries of the ledger".into()),
            Broken::Failed(error) => error,
        };
        producer.begin().map_err(failed)?;
        if let Some(error) = self.send_entries(producer, &entries).await.map_err(failed)? {
            return Err(producer.abort_for(error).await.unwrap_or_else(failed));
        }
        producer.commit().await.map_err(failed)
    }

    /// Has the brokers say whether a transaction may write to the ledger topic: one that is aborted. Nobody takes its record
    /// for an entry, who sees it at all.
    pub(super) async fn try_ledger(&self, producer: &Transactional) -> Result<(), SinkError> {
        let failed = |broken| match broken {
            Broken::Fenced => SinkError::Retry("another process checks the same sink".into()),
            Broken::Failed(error) => error,
        };
        producer.begin().map_err(failed)?;
        let record = Outgoing { topic: &self.ledger_topic, key: Some(b"check"), value: None, headers: headers_of(&[]) };
        match producer.send([record].into_iter()).await.map_err(failed)?.pop() {
            Some((_, failure)) => {
                let error = self.ledger_failure(&failure, 0);
                Err(producer.abort_for(error).await.unwrap_or_else(failed))
            }
            None => producer.abort().await.map_err(failed),
        }
    }

    /// Sends entries of the ledger; returns why the brokers refuse one.
    async fn send_entries(
        &self,
        producer: &Transactional,
        entries: &[(Key, String)],
    ) -> Result<Option<SinkError>, Broken> {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (json(key), value)).collect();
        let messages = entries.iter().map(|(key, value)| Outgoing {
            topic: &self.ledger_topic,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: headers_of(&[]),
        });
        let failed = producer.send(messages).await?;
        Ok(failed.into_iter().next().map(|(place, failure)| self.ledger_failure(&failure, entries[place].1.len())))
    }

    fn ledger_failure(&self, failure: &Failure, bytes: usize) -> SinkError {
        let topic = &self.ledger_topic;
        if failure.is_of_no_topic() {
            return SinkError::Stop(format!(
                "the ledger topic {topic:?} is gone: it says what has been published. Restore it; or begin anew with a \
                 pipeline of another name, or a fresh `ledger_topic`, which publishes everything again"
            ));
        }
        if failure.is_of_message() {
            return SinkError::Stop(format!("the ledger topic: {}", failure.reason(topic, bytes)));
        }
        failure.about(topic)
    }

    /// Runs one transaction. After an error it has been aborted, and the producer can go on.
    async fn transact(
        &self,
        producer: &Transactional,
        step: &Step<'_>,
        messages: &[Message<'_>],
        row: &Row,
        changed: Option<i64>,
    ) -> Result<Ended, SinkError> {
        let mut doubt = Doubt::default();
        loop {
            if let Err(broken) = producer.begin() {
                return Ok(broken.into());
            }
            let passed = match doubt.pass(producer, step, messages).await {
                Ok(passed) => passed,
                Err(broken) => return Ok(broken.into()),
            };
            match passed {
                Ok(Pass::Through) if doubt.bad.is_empty() => break,
                Err(error) => {
                    return producer.abort_for(error).await.map_or_else(|broken| Ok(broken.into()), Err);
                }
                Ok(pass) => {
                    if let Err(broken) = producer.abort().await {
                        return Ok(broken.into());
                    }
                    if let Pass::Through = pass {
                        let mut bad = doubt.bad;
                        bad.sort_by_key(|bad| bad.index);
                        return Ok(Ended::Rejected(bad));
                    }
                }
            }
        }
        let mut entries = vec![(Key::row(&self.name, step.key), json(row))];
        if let Some(time) = changed {
            entries.push((Key::history(&self.name, step.key, step.from), history_value(step.digest, time)));
        }
        match self.send_entries(producer, &entries).await {
            Err(broken) => return Ok(broken.into()),
            Ok(Some(error)) => {
                return producer.abort_for(error).await.map_or_else(|broken| Ok(broken.into()), Err);
            }
            Ok(None) => {}
        }
        Ok(producer.commit().await.map_or_else(Ended::from, |()| Ended::Committed))
    }

    pub(super) fn known_owner(&self, key: &LedgerKey) -> Option<Arc<tokio::sync::Mutex<Owner>>> {
        self.owners().get(key).cloned()
    }

    fn owner(&self, key: &LedgerKey) -> Arc<tokio::sync::Mutex<Owner>> {
        self.owners().entry(key.clone()).or_default().clone()
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Fenced => Self::Fenced,
            Broken::Failed(error) => Self::Unsettled(error),
        }
    }
}

impl Owner {
    /// Whether an earlier try of the step, whose answer was lost, was committed.
    fn settle(&mut self, step: &Step<'_>) -> bool {
        let Some(unsettled) = self.unsettled.take() else { return false };
        let is_of_it = unsettled.row.token() == step.token
            && (unsettled.from, unsettled.row.next) == (step.from, step.to)
            && (&*unsettled.row.note, &*unsettled.row.digest) == (step.note, step.digest);
        is_of_it && self.row.as_ref() == Some(&unsettled.row)
    }
}

/// What several passes over one batch find out. Brokers take or refuse what comes in one request as a whole, so that only a
/// message alone tells that it is bad.
#[derive(Default)]
struct Doubt {
    /// The places of those to send alone.
    alone: HashSet<usize>,
    /// The places of those that are acknowledged, and aborted.
    good: HashSet<usize>,
    bad: Vec<BadWrite>,
    /// The places of those that are bad.
    out: HashSet<usize>,
}

impl Doubt {
    /// Sends the messages that are not known to be bad. Once one is, nothing will be committed, so that those that are known
    /// to be good are not sent again.
    async fn pass(
        &mut self,
        producer: &Transactional,
        step: &Step<'_>,
        messages: &[Message<'_>],
    ) -> Result<Result<Pass, SinkError>, Broken> {
        let is_sent = |place: &usize| !self.out.contains(place) && (self.bad.is_empty() || !self.good.contains(place));
        let places: Vec<usize> = (0..messages.len()).filter(is_sent).collect();
        let is_alone = |place: usize| messages[place].size() > ALONE || self.alone.contains(&place);
        let runs: Vec<Vec<usize>> =
            places.chunk_by(|one, next| !is_alone(*one) && !is_alone(*next)).map(<[usize]>::to_vec).collect();
        for run in runs {
            let failed = producer.send(run.iter().map(|place| messages[*place].outgoing(step))).await?;
            let failures: Vec<_> = failed.into_iter().map(|(at, failure)| (run[at], failure)).collect();
            let is_failed = |place: &usize| failures.iter().any(|(failed, _)| failed == place);
            self.good.extend(run.iter().filter(|place| !is_failed(place)));
            if failures.is_empty() {
                continue;
            }
            let of_messages: Vec<_> = failures.iter().filter(|(_, failure)| failure.is_of_message()).collect();
            if of_messages.is_empty() {
                let errors = failures.iter().map(|(place, failure)| failure.about(messages[*place].topic));
                // After the first failure those that were to follow are not sent.
                return Ok(match errors.fold(None, |known, error| Some(worse(known, error))) {
                    Some(SinkError::Retry(_)) | None if producer.has_skipped() => Ok(Pass::Again),
                    None => Ok(Pass::Again),
                    Some(error) => Err(error),
                });
            }
            if let [place] = run[..] {
                let message = &messages[place];
                let reason = of_messages[0].1.reason(message.topic, message.size());
                self.bad.push(BadWrite { index: message.index, clash: false, by_trigger: false, reason });
                self.out.insert(place);
            } else {
                self.alone.extend(of_messages.iter().map(|(place, _)| *place));
            }
            return Ok(Ok(Pass::Again));
        }
        Ok(Ok(Pass::Through))
    }
}
