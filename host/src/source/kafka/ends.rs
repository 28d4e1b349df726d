//! Where the partitions end that are claimed, so that it is known how far behind they are. What was fetched does
//! not tell: the client stops fetching while its buffers are full, which is when it matters.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::fetch::number;
use crate::source::TopicPartition;
use crate::source::status::Status;

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks once. One request goes to each broker that leads one of the partitions.
pub(super) fn ask(client: &BaseConsumer<Context>, status: &Status) -> anyhow::Result<()> {
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
