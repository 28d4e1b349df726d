//! What a failed message means: one pure function from librdkafka's codes.

use rdkafka::error::RDKafkaErrorCode::{self as Code, *};

use crate::sink::SinkError;

/// Why a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(super) kind: Kind,
    cause: String,
    /// The topic that it is of, where that is known to be another one than the message's.
    topic: Option<String>,
}

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The message is larger than the topic takes, or was sent together with such a one.
    TooLarge,
    /// The topic does not take this message, or one that was sent together with it.
    Refused,
    /// The topic is not there.
    NoTopic,
    /// The client may not do this.
    Denied,
    /// The topic's name, or what the broker is asked, cannot be.
    Impossible,
    /// It may pass.
    Passing,
}

impl Failure {
    /// The failure of this code. What librdkafka told last of the connection, with its own code, explains what merely
    /// took too long.
    pub(super) fn new(code: Code, told: Option<&(Code, String)>) -> Self {
        match told {
            Some((why, reason)) if Kind::of(code) == Kind::Passing => {
                Self::of(Kind::of(*why), format!("{code}: {reason}"))
            }
            _ => Self::of(Kind::of(code), code.to_string()),
        }
    }

    /// The failure of a message that is gone because its transaction may not write to a topic: this one, if it is known.
    pub(super) fn denied(cause: String, topic: Option<String>) -> Self {
        Self { topic, ..Self::of(Kind::Denied, cause) }
    }

    fn of(kind: Kind, cause: String) -> Self {
        Self { kind, cause, topic: None }
    }

    /// The failure of a message of this code, of a producer that cannot go on for this reason. Another one can, unless
    /// the reason is the user's rights.
    pub(super) fn fatal(code: Code, (why, cause): &(Code, String)) -> Self {
        match Kind::of(code) {
            Kind::Passing => Self::of(Kind::of(*why), cause.clone()),
            kind => Self::of(kind, code.to_string()),
        }
    }

    /// Whether the message itself may be bad. Where several were sent together, only another try alone tells which.
    pub(crate) fn is_of_message(&self) -> bool {
        matches!(self.kind, Kind::TooLarge | Kind::Refused)
    }

    /// Whether the message is larger than the topic takes.
    pub(crate) fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }

    /// Whether the topic is not there.
    pub(super) fn is_of_no_topic(&self) -> bool {
        self.kind == Kind::NoTopic
    }

    /// Why the topic does not take a message of so many bytes, where the failure is of the message.
    pub(super) fn reason(&self, topic: &str, bytes: usize) -> String {
        match self.kind {
            Kind::TooLarge => format!(
                "a message of {bytes} bytes is larger than topic {topic:?} takes: make it smaller, or raise the topic's \
                 max.message.bytes (of all topics: the broker's message.max.bytes)"
            ),
            _ => format!(
                "topic {topic:?} does not take the message: {}. A compacted topic takes no message without a key",
                self.cause
            ),
        }
    }

    /// The error, where the failure is not of the message.
    pub(crate) fn about(&self, topic: &str) -> SinkError {
        let cause = &self.cause;
        let topic = self.topic.as_deref().unwrap_or(topic);
        match self.kind {
            Kind::NoTopic => SinkError::Stop(format!(
                "there is no topic {topic:?}: create it; tidegate never does, since it cannot know its partitions and \
                 retention"
            )),
            Kind::Denied => SinkError::Stop(format!(
                "topic {topic:?}: the broker denies it: {cause}; correct `sasl` and `tls`, or allow this user to Write \
                 and Describe the topic, and IdempotentWrite on a cluster older than Kafka 2.8"
            )),
            Kind::TooLarge | Kind::Refused => SinkError::Stop(self.reason(topic, 0)),
            Kind::Impossible => SinkError::Stop(format!("topic {topic:?}: {cause}")),
            Kind::Passing => SinkError::Retry(format!("topic {topic:?}: {cause}")),
        }
    }
}

impl Kind {
    fn of(code: Code) -> Self {
        match code {
            MessageSizeTooLarge => Self::TooLarge,
            InvalidRecord | InvalidDifferentRecord | InvalidTimestamp => Self::Refused,
            UnknownTopicOrPartition | UnknownTopic | UnknownPartition => Self::NoTopic,
            TopicAuthorizationFailed
            | ClusterAuthorizationFailed
            | Authentication
            | SSL
            | SaslAuthenticationFailed
            | UnsupportedSASLMechanism
            | IllegalSASLState => Self::Denied,
            InvalidTopic | InvalidArgument | PolicyViolation | UnsupportedVersion => Self::Impossible,
            _ => Self::Passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_of_the_message_or_stops_or_passes() {
        for code in [MessageSizeTooLarge, InvalidRecord, InvalidDifferentRecord] {
            assert!(Failure::new(code, None).is_of_message(), "{code}");
        }
        for code in [UnknownTopic, UnknownTopicOrPartition, TopicAuthorizationFailed, Authentication, InvalidTopic] {
            assert!(matches!(Failure::new(code, None).about("t"), SinkError::Stop(_)), "{code}");
        }
        for code in [MessageTimedOut, NotEnoughReplicas, BrokerTransportFailure, OutOfOrderSequenceNumber, Fatal] {
            assert!(matches!(Failure::new(code, None).about("t"), SinkError::Retry(_)), "{code}");
        }
    }

    #[test]
    fn what_took_too_long_for_a_wrong_password_stops() {
        let told = (Authentication, "SASL authentication failed".to_owned());
        let SinkError::Stop(text) = Failure::new(MessageTimedOut, Some(&told)).about("t") else { unreachable!() };
        assert!(text.contains("SASL authentication failed") && text.contains("`sasl`"), "{text}");
        assert_eq!(Failure::new(UnknownTopic, Some(&told)), Failure::new(UnknownTopic, None));
    }
}
