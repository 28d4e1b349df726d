//! Asks where the partitions end that are claimed, so that it is known how far behind they are. What was fetched does
//! not tell: the client stops fetching while its buffers are full, which is when it matters.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::fetch::number;
use crate::source::TopicPartition;
use crate::source::status::Status;

/// How often it is asked. One request goes to each broker that leads one of the partitions.
const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks again and again, on a thread of its own, until the answer of this is dropped. Nobody waits for it then.
pub(super) fn watch(client: Arc<BaseConsumer<Context>>, status: Arc<Status>) -> std::io::Result<Sender<()>> {
    let (watching, ended) = mpsc::channel();
    thread::Builder::new().name("tidegate-ends".into()).spawn(move || {
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = ask(&client, &status) {
                // The clients that fetch and commit tell it when the cluster is away.
                tracing::debug!("cannot ask where partitions end: {error:#}");
            }
        }
    })?;
    Ok(watching)
}

fn ask(client: &BaseConsumer<Context>, status: &Status) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    for partition in status.partitions() {
        // In the place of a time, the end.
        list.add_partition_offset(&partition.topic, number(&partition)?, Offset::End)?;
    }
    if list.count() == 0 {
        return Ok(());
    }
    for element in client.offsets_for_times(list, PATIENCE)?.elements() {
        let Offset::Offset(end) = element.offset() else { continue };
        if let (Ok(partition), Ok(end)) = (u32::try_from(element.partition()), u64::try_from(end)) {
            status.ends_at(&TopicPartition { topic: element.topic().into(), partition }, end);
        }
    }
    Ok(())
}
