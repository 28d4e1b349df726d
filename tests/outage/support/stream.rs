//! A pipeline with its topic: what nearly every test here has.

use super::{Broker, Event, Program, Run, Topic, settled, unique};

/// A pipeline, its topic and what was produced there.
pub(crate) struct Stream {
    pub(crate) program: Program,
    pub(crate) topic: Topic,
    pub(crate) pipeline: String,
    pub(crate) produced: Vec<Event>,
}

impl Stream {
    /// On this cluster, with these events in a topic of three partitions, whose last part is `table`. `config` is the
    /// whole file but for the source's block, in which `{pipeline}` and `{topic}` stand for their names.
    pub(crate) fn new(broker: &Broker, table: &str, events: Vec<Event>, config: &str) -> Self {
        let (pipeline, topic) = (unique("pipeline"), broker.topic(table, 3, &events));
        let config = config.replace("{pipeline}", &pipeline).replace("{topic}", &topic.name);
        Self { program: Program::new(broker, &config), topic, pipeline, produced: events }
    }

    /// Produces events that the store shall have in the end.
    pub(crate) fn produce(&mut self, events: &[Event]) {
        self.topic.produce(events);
        self.produced.extend_from_slice(events);
    }

    /// Waits until all is done.
    pub(crate) fn settled(&self, run: &mut Run) {
        settled(run, &self.topic, &self.pipeline);
    }

    /// Starts it, and waits until all is done.
    pub(crate) fn running(&self) -> Run {
        let mut run = self.program.start();
        self.settled(&mut run);
        run
    }
}
