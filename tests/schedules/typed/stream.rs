//! A stream of events that ask for anything of a few keys, some of which a store refuses.

use std::collections::BTreeMap;

use super::super::number;
use super::super::stream::States;
use super::event::{Asked, Event, Fields, NULL, Names, Op, Port, spoil};
use crate::live::random::Random;
use crate::outage::support::{self, Topic};

/// The keys of each partition, and how often each has an event in a hundred rounds: so that there are batches with many
/// events of one key, and keys whose last event is followed by none for long.
const OFTEN: [usize; 3] = [45, 15, 3];

/// A topic, its pipeline and what was produced there.
pub(super) struct Stream {
    pub(super) topic: Topic,
    pub(super) pipeline: String,
    pub(super) names: Names,
    /// By partition.
    pub(super) events: [Vec<Event>; 3],
    /// What each row, document and entry has been through, for those who watch.
    pub(super) states: BTreeMap<Port, States>,
    /// What its events are about.
    ports: Vec<Port>,
    /// Whether an event may write the document of another key of its partition too.
    strays: bool,
    /// How many documents of a hundred are such as a mapping refuses.
    refused_documents: usize,
    /// Whether the table checks amounts.
    pub(super) checked: bool,
    round: u32,
    /// Where each partition of the topic begins by now.
    pub(super) begins: [usize; 3],
}

impl Stream {
    pub(super) fn new(topic: Topic, pipeline: String, names: Names, ports: &[Port], strays: bool) -> Self {
        let states = ports.iter().map(|port| (*port, States::default())).collect();
        let refused = number("TIDEGATE_FAULT_REFUSED_DOCUMENTS").unwrap_or(5);
        let refused_documents = usize::try_from(refused).unwrap();
        let events = [vec![], vec![], vec![]];
        Self {
            topic,
            pipeline,
            names,
            events,
            states,
            ports: ports.to_vec(),
            strays,
            refused_documents,
            checked: true,
            round: 0,
            begins: [0; 3],
        }
    }

    /// The keys of all partitions.
    pub(super) fn keys(&self) -> Vec<String> {
        (0..3).flat_map(|partition| (0..OFTEN.len()).map(move |place| key(partition, place))).collect()
    }

    /// Produces so many rounds.
    pub(super) fn produce(&mut self, rounds: u32, random: &mut Random) {
        let mut records = Vec::new();
        for _ in 0..rounds {
            for (partition, (place, often)) in
                (0..3).flat_map(|one| OFTEN.iter().enumerate().map(move |key| (one, key)))
            {
                if !random.percent(*often) {
                    continue;
                }
                self.round += 1;
                let event = self.event(partition, place, random);
                let (key, value) = event.record(&self.names);
                let partition_number = i32::try_from(partition).unwrap();
                records.push(support::Event { partition: partition_number, key: Some(key), value: Some(value) });
                self.note(&event);
                self.events[partition].push(event);
            }
        }
        self.topic.produce(&records);
    }

    /// Where each partition ends.
    pub(super) fn ends(&self) -> [usize; 3] {
        [0, 1, 2].map(|partition| self.events[partition].len())
    }

    fn event(&self, partition: usize, place: usize, random: &mut Random) -> Event {
        let own = key(partition, place);
        let mut asked = Vec::new();
        for port in &self.ports {
            let target = own.clone();
            asked.extend(self.op(*port, &own, random).map(|op| Asked { port: *port, target, op }));
        }
        if self.strays && random.percent(15) {
            let target = key(partition, (place + 1) % OFTEN.len());
            let op = self.op(Port::Documents, &target, random);
            asked.extend(op.map(|op| Asked { port: Port::Documents, target, op }));
        }
        for one in &mut asked {
            let share = match one.port {
                Port::Tables => 4,
                Port::Documents => self.refused_documents,
                Port::Cache | Port::Messages => 0,
            };
            if random.percent(share) {
                // A clash takes a second, so that few are.
                let choice = if random.percent(20) { random.below(2) } else { 2 + random.below(5) };
                spoil(&mut one.op, one.port, choice);
            }
        }
        let disliked = random.percent(2);
        Event { number: self.round, key: own, asked, disliked, lost: false, checked: self.checked, mended: false }
    }

    /// What is asked of a store, if anything.
    fn op(&self, port: Port, target: &str, random: &mut Random) -> Option<Op> {
        let mut fields = Fields::new();
        let mut put = |name: &str, value: String| drop(fields.insert(name.to_owned(), value));
        put("status", format!("round-{:06}", self.round));
        let amount = random.below(1000).to_string();
        if port == Port::Messages {
            return Some(Op::Set(fields));
        }
        let choice = random.below(100);
        if choice < 12 {
            return Some(Op::Delete);
        }
        if choice < 27 {
            if random.percent(50) {
                put("amount", amount);
            }
            return Some(Op::Merge(fields));
        }
        if choice < 37 {
            return None;
        }
        put("amount", amount);
        match port {
            Port::Tables if choice < 50 => {}
            Port::Tables => {
                put("day", format!("2024-05-{:02}", 1 + random.below(28)));
                put("code", format!("code-{target}"));
                put("parent", (1 + random.below(3)).to_string());
            }
            Port::Documents => put("day", format!("2024-05-{:02}", 1 + random.below(28))),
            Port::Cache | Port::Messages => {}
        }
        Some(if port == Port::Tables { Op::Upsert(fields) } else { Op::Set(fields) })
    }

    /// For the watchers: what a target may be met as from now on.
    fn note(&self, event: &Event) {
        for asked in &event.asked {
            let mut states = self.states[&asked.port].lock().unwrap();
            // A merge keeps the round of what it is laid over unless it has its own, which all have.
            let state = asked.op.fields().map(|_| event.number);
            if asked.op.fields().is_none_or(|fields| fields["status"] != NULL) {
                states.entry(asked.target.clone()).or_default().push(state);
            }
        }
    }
}

fn key(partition: usize, place: usize) -> String {
    format!("p{partition}-{}", ["often", "sometimes", "seldom"][place])
}
