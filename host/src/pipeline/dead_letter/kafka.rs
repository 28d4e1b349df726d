//! Dead letters in a Kafka topic, laid out as those of Kafka Connect.

use std::sync::Arc;

use super::DeadLetter;
use super::headers::{Extent, Parts};
use crate::config::KafkaClient;
use crate::sink::SinkError;
use crate::sink::kafka::producer::{Outgoing, Producer, headers_of};
use crate::source::Lease;

/// A topic of dead letters. Their timestamps are of when they were filed, so that the topic's retention counts from
/// there; the record's own is in the header `tidegate.timestamp`.
pub(in crate::pipeline) struct DeadLetterTopic {
    producer: Arc<Producer>,
    topic: String,
    value_bytes: usize,
}

impl std::fmt::Debug for DeadLetterTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetterTopic {
    /// Opens the topic. Values of more than `value_bytes` are left out of the letters.
    ///
    /// # Errors
    /// `Stop` when a setting is wrong or there is no such topic. A broker that is away is no error yet.
    pub(in crate::pipeline) fn open(client: &KafkaClient, topic: &str, value_bytes: usize) -> Result<Self, SinkError> {
        let opened = Self { producer: Producer::shared(client)?, topic: topic.to_owned(), value_bytes };
        match opened.producer.inspect([topic]) {
            Ok(findings) if findings.is_empty() => {}
            Ok(findings) => return Err(SinkError::Stop(findings.join("; "))),
            Err(SinkError::Retry(cause)) => {
                tracing::warn!(
                    cause,
                    "[dead_letters.kafka] cannot be reached yet; going on without a look at its topic"
                );
            }
            Err(stop) => return Err(stop),
        }
        Ok(opened)
    }

    /// Files letters: every replica in sync has them when this returns. After an error some of them may be there, and
    /// come again under the same `tidegate.id`. What the topic does not take whole is filed with less.
    pub(in crate::pipeline) async fn file(&self, letters: &[DeadLetter<'_>]) -> Result<usize, SinkError> {
        let whole: Vec<_> = letters.iter().map(|letter| self.parts(letter, Extent::Whole)).collect();
        let failed = self.producer.send(whole.iter().map(|parts| self.outgoing(parts)), &Lease::default()).await?;
        let mut again = Vec::new();
        for (place, failure) in failed {
            if !failure.is_of_message() {
                return Err(failure.about(&self.topic));
            }
            again.extend(letters.get(place));
        }
        for letter in again {
            self.file_alone(letter).await?;
        }
        Ok(letters.len())
    }

    /// Files as much of a letter as the topic takes: whole, where only the letters together were too large.
    async fn file_alone(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError> {
        for extent in Extent::ALL {
            let parts = self.parts(letter, extent);
            match self.producer.send_alone(self.outgoing(&parts), &Lease::default()).await? {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_too_large() => {}
                Err(failure) => return Err(failure.about(&self.topic)),
            }
        }
        Err(SinkError::Stop(format!(
            "topic {:?} does not even take the headers of the dead letter of {}: raise its max.message.bytes",
            self.topic,
            letter.record.position()
        )))
    }

    fn parts<'a>(&self, letter: &DeadLetter<'a>, extent: Extent) -> Parts<'a> {
        letter.parts(extent, self.value_bytes, true)
    }

    fn outgoing<'a>(&'a self, parts: &Parts<'a>) -> Outgoing<'a> {
        Outgoing { topic: &self.topic, key: parts.key, value: parts.value, headers: headers_of(&parts.headers) }
    }
}
