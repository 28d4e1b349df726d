//! The source against a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod errors;
mod fetch;
mod group;
mod host;
mod lease;
mod memory;
mod metadata;
mod recreated;
mod tenure;
mod trouble;

use self::cluster::{client, unique};
use super::KafkaSource;
use std::sync::Arc;

use crate::config::{self, Assignment, KafkaClient};

/// A source of these topics in a group of its own.
fn source(topics: &[&str]) -> KafkaSource {
    in_group(&unique("g"), topics, Assignment::Eager)
}

fn in_group(group: &str, topics: &[&str], assignment: Assignment) -> KafkaSource {
    of(client(), group, topics, assignment)
}

fn of(client: KafkaClient, group: &str, topics: &[&str], assignment: Assignment) -> KafkaSource {
    KafkaSource {
        config: config::KafkaSource { client, assignment, instance: None },
        group: group.to_owned(),
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        status: Arc::default(),
        count: |metadata, _| metadata.to_owned(),
    }
}
