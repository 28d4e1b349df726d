//! Dead letters: records that could not be handled, kept whole with the reason, durable before the ledger moves on.

mod file;
mod filed;
mod headers;
mod index;
mod kafka;
mod replay;
mod shown;

pub(super) use self::file::DeadLetterFile;
pub use self::filed::{Filed, Letter, read};
pub(super) use self::kafka::DeadLetterTopic;
pub use self::replay::{Handled, Report, Request, replay};
pub use self::shown::{Bytes, Foreign, Found, Listed, ShownLetter, Wanted, WholeLetter, find, is_position, list};
use crate::contract::Fault;
use crate::sink::SinkError;
use crate::source::Record;

/// Where in its way a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The record could not be understood.
    Decode,
    /// The transform refused it or failed.
    Transform,
    /// What the transform answered cannot be executed.
    Check,
    /// A sink refused it.
    Write,
}

impl Stage {
    /// Its name in a dead letter.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "DECODE",
            Self::Transform => "TRANSFORM",
            Self::Check => "CHECK",
            Self::Write => "WRITE",
        }
    }
}

/// A record that could not be handled, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeadLetter<'a> {
    /// The record as it was on the wire.
    pub(super) record: &'a Record,
    /// The pipeline.
    pub(super) pipeline: &'a str,
    /// The transform; empty where the record came to none.
    pub(super) transform: &'a str,
    /// The digest of the transform's module; empty likewise.
    pub(super) digest: &'a str,
    /// The stable label.
    pub(super) fault: Fault,
    /// Where it failed.
    pub(super) stage: Stage,
    /// The sink that refused it; empty where it came to none.
    pub(super) sink: &'a str,
    /// For the operator: place, cause and remedy.
    pub(super) reason: &'a str,
}

/// Where dead letters go.
#[derive(Debug)]
pub(super) enum DeadLetters {
    /// Into a file.
    File(DeadLetterFile),
    /// Into a topic.
    Kafka(DeadLetterTopic),
}

impl DeadLetters {
    /// Files letters; they are durable when this returns. Returns how many were new.
    ///
    /// A letter is known by pipeline, transform and record: its place, its time, its key and its value. The file takes each
    /// once; a topic takes it as often as it is filed, each time under the same `tidegate.id`.
    ///
    /// # Errors
    /// `Retry` when the place cannot be reached or is full: the same call again files what is missing. `Stop` when
    /// waiting will not help; nothing is lost, as long as the ledger does not move.
    pub(super) async fn file(&self, letters: &[DeadLetter<'_>]) -> Result<usize, SinkError> {
        match self {
            Self::File(file) => file.file(letters),
            Self::Kafka(topic) => topic.file(letters).await,
        }
    }

    /// From now on the file cannot be written.
    #[cfg(test)]
    pub(super) fn break_off(&self) {
        if let Self::File(file) = self {
            file.break_off();
        }
    }
}
