//! The topic that holds the ledger: one partition, so that it is read to one end, and compacted, so that the last state of
//! every row stays and nothing else.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::config::{KafkaClient, KafkaSasl};
use crate::sink::SinkError;
use crate::sink::kafka::failure::Failure;
use crate::sink::kafka::producer::{Context, Producer};
use crate::source::kafka::client;

/// How long the brokers may take to answer.
const WITHIN: Duration = Duration::from_secs(15);
/// The settings of a topic that is created here. Replaced entries are compacted away soon, so that a start reads little.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "3600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

/// What is found.
enum Found {
    Fit,
    Missing,
    /// It cannot hold a ledger.
    Unfit(String),
}

/// Creates the topic where it is missing, and checks that it can hold a ledger.
///
/// # Errors
/// `Stop` where it cannot, or may not be created; `Retry` where the brokers do not answer.
pub(super) async fn ensure(settings: &KafkaClient, producer: &Producer, topic: &str) -> Result<(), SinkError> {
    loop {
        match look(settings, producer, topic).await? {
            Found::Fit => return Ok(()),
            Found::Unfit(fault) => return Err(SinkError::Stop(fault)),
            Found::Missing => create(settings, topic, false).await?,
        }
    }
}

/// What is wrong with the topic, and what the first start will do.
///
/// # Errors
/// `Stop` where its settings may not be read; `Retry` where the brokers do not answer.
pub(super) async fn inspect(
    settings: &KafkaClient,
    producer: &Producer,
    topic: &str,
) -> Result<(Option<String>, Option<String>), SinkError> {
    Ok(match look(settings, producer, topic).await? {
        Found::Fit => (None, None),
        Found::Unfit(fault) => (Some(fault), None),
        Found::Missing => match create(settings, topic, true).await {
            Ok(()) => (None, Some(format!("the ledger topic {topic:?} is not there yet: the first start creates it"))),
            Err(SinkError::Stop(fault)) => (Some(fault), None),
            Err(retry) => return Err(retry),
        },
    })
}

async fn look(settings: &KafkaClient, producer: &Producer, topic: &str) -> Result<Found, SinkError> {
    match producer.partitions(topic)? {
        Ok(1) => {}
        Ok(partitions) => {
            return Ok(Found::Unfit(format!(
                "the ledger topic {topic:?} has {partitions} partitions, and must have one: name another as \
                 `ledger_topic`, or delete it where nothing is in it"
            )));
        }
        Err(code) => {
            return match Failure::new(code, None) {
                failure if failure.is_of_no_topic() => Ok(Found::Missing),
                failure => Err(failure.about(topic)),
            };
        }
    }
    let Some(admin) = admin(settings)? else { return Ok(Found::Fit) };
    let options = AdminOptions::new().request_timeout(Some(WITHIN));
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
    ended(admin);
    let described = described.map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Unknown));
    let described = match described.and_then(|mut described| described.pop().unwrap_or(Err(Code::Unknown))) {
        Ok(described) => described,
        Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            return Err(SinkError::Stop(format!(
                "the ledger topic {topic:?}: the broker does not tell its settings: allow this user DescribeConfigs on it"
            )));
        }
        Err(code) if Failure::new(code, None).is_of_no_topic() => return Ok(Found::Missing),
        Err(code) => return Err(SinkError::Retry(format!("the settings of the ledger topic {topic:?}: {code}"))),
    };
    let policy = described.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    if policy == "compact" {
        return Ok(Found::Fit);
    }
    Ok(Found::Unfit(format!(
        "the ledger topic {topic:?} has cleanup.policy={policy}, by which the brokers delete what the ledger holds: set \
         it to compact (`kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {topic} --add-config \
         cleanup.policy=compact`)"
    )))
}

async fn create(settings: &KafkaClient, topic: &str, only_try: bool) -> Result<(), SinkError> {
    let by_hand = format!(
        "create it: `kafka-topics.sh --bootstrap-server … --create --topic {topic} --partitions 1 --config cleanup.policy=compact --config \
         segment.ms=3600000`"
    );
    let Some(admin) = admin(settings)? else {
        return Err(SinkError::Stop(format!("there is no ledger topic {topic:?}: {by_hand}")));
    };
    // The cluster's default.replication.factor.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1));
    let new = SETTINGS.iter().fold(new, |new, (name, value)| new.set(name, value));
    let options = AdminOptions::new().request_timeout(Some(WITHIN)).operation_timeout(Some(WITHIN));
    let created = admin.create_topics([&new], &options.validate_only(only_try)).await;
    ended(admin);
    let created = created.map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Unknown));
    match created.and_then(|mut created| created.pop().map_or(Err(Code::Unknown), |one| one.map_err(|(_, code)| code)))
    {
        Ok(_) | Err(Code::TopicAlreadyExists) => Ok(()),
        Err(
            code @ (Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidTopic),
        ) => Err(SinkError::Stop(format!("the ledger topic {topic:?} cannot be made: {code}: {by_hand}"))),
        Err(code) => Err(SinkError::Retry(format!("the ledger topic {topic:?} is not made: {code}"))),
    }
}

/// None with OAUTHBEARER: librdkafka does not ask an admin client for its token.
fn admin(settings: &KafkaClient) -> Result<Option<AdminClient<Context>>, SinkError> {
    if let Some(KafkaSasl::Token { .. }) = settings.sasl {
        return Ok(None);
    }
    let admin = client::client_config(settings).create_with_context(Context::of(settings));
    admin.map(Some).map_err(|error| SinkError::Stop(format!("{:#}", client::refused(settings, &error))))
}

/// Drops the client on a blocking thread: its own threads take a moment to end.
fn ended(admin: AdminClient<Context>) {
    drop(tokio::task::spawn_blocking(move || drop(admin)));
}
