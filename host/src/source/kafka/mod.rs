//! Records from a Kafka cluster: a consumer group a pipeline.

pub(crate) mod client;
