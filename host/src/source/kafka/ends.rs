//! Where the partitions end that are claimed, so that it is known how far behind they are. What was fetched does
//! not tell: the client stops fetching while its buffers are full, which is when it matters.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::fetch::number;
use crate::source::TopicPartition;
use crate::source::status::{Lag, Status};

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks once. One request goes to each broker that leads one of the partitions.
/// Answers the partitions that had come further than to their end.
pub(super) fn ask(client: &BaseConsumer<Context>, status: &Status) -> anyhow::Result<HashSet<TopicPartition>> {
    let (mut list, mut stand, mut beyond) = (TopicPartitionList::new(), HashMap::new(), HashSet::new());
    for Lag { partition, next, .. } in status.lags() {
        // In the place of a time, the end.
        list.add_partition_offset(&partition.topic, number(&partition)?, Offset::End)?;
        stand.insert(partition, next);
    }
    if list.count() == 0 {
        return Ok(beyond);
    }
    for element in client.offsets_for_times(list, PATIENCE)?.elements() {
        let Offset::Offset(end) = element.offset() else { continue };
        if let (Ok(partition), Ok(end)) = (u32::try_from(element.partition()), u64::try_from(end)) {
            let partition = TopicPartition { topic: element.topic().into(), partition };
            status.ends_at(&partition, end);
            if stand.get(&partition).is_some_and(|next| *next > end) {
                beyond.insert(partition);
            }
        }
    }
    Ok(beyond)
}
