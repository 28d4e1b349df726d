//! Which modules made what the tables hold: the ledger's history.

use super::error::Problem;
use super::ledger::{Ledger, signed};
use super::session::Session;
use crate::sink::{HISTORY_ROWS, HistoryRow, LedgerKey, Step};
use crate::source::TopicPartition;

impl Ledger {
    /// Enters that the ledger moves under other digests than before.
    pub(super) async fn enter_change(&self, session: &mut Session, step: &Step<'_>) -> Result<(), Problem> {
        let sql = format!(
            "INSERT INTO {0}.history (pipeline, sink, topic, partition, from_offset, digests, changed_at)
             SELECT $1, $2, $3, $4, $5, $6, greatest(now(), max(changed_at)) FROM {0}.history
             WHERE pipeline = $1 AND sink = $2 AND topic = $3 AND partition = $4
             ON CONFLICT (pipeline, sink, topic, partition, from_offset)
             DO UPDATE SET digests = excluded.digests, changed_at = excluded.changed_at",
            self.schema
        );
        let LedgerKey { pipeline, partition } = step.key;
        let (topic, number, from) = (&*partition.topic, i64::from(partition.partition), signed(step.from)?);
        session.execute(&sql, &[pipeline, &self.sink, &topic, &number, &from, &step.digest]).await?;
        Ok(())
    }

    /// The history of a pipeline's rows.
    pub(super) async fn history(&self, session: &mut Session, pipeline: &str) -> Result<Vec<HistoryRow>, Problem> {
        let sql = format!(
            "SELECT topic, partition, from_offset, digests, floor(extract(epoch FROM changed_at) * 1000)::bigint
             FROM {}.history WHERE pipeline = $1 AND sink = $2
             ORDER BY changed_at DESC, from_offset DESC LIMIT {HISTORY_ROWS}",
            self.schema
        );
        let rows = match session.query(&sql, &[&pipeline, &self.sink]).await {
            // No tables yet: no one has started.
            Err(Problem::NoTable(_)) => return Ok(Vec::new()),
            answered => answered?,
        };
        let tampered =
            |_| Problem::Stop(format!("{}.history holds numbers that are none: restore it", self.schema_name));
        let rows = rows.iter().map(|row| {
            let (topic, digests): (&str, &str) = (row.try_get(0)?, row.try_get(3)?);
            let partition = u32::try_from(row.try_get::<_, i64>(1)?).map_err(tampered)?;
            let offset = u64::try_from(row.try_get::<_, i64>(2)?).map_err(tampered)?;
            let partition = TopicPartition { topic: topic.into(), partition };
            Ok(HistoryRow::new(partition, offset, digests, row.try_get(4)?))
        });
        Ok(HistoryRow::ordered(rows.collect::<Result<_, Problem>>()?))
    }
}
