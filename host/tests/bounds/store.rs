//! What a sink keeps of what modules name.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use tempfile::TempDir;
use tidegate::command::{Command, Row};
use tidegate::contract::Table;
use tidegate::sink::sqlite::{Options, Sqlite};
use tidegate::sink::{Declared, LedgerKey, Sink, Step, Token, Write, Written};
use tidegate::source::TopicPartition;
use tokio::runtime::Builder;

use crate::alone::grows_by_less_than;

const WIDE: usize = 500;

fn value() -> Box<RawValue> {
    RawValue::from_string("1".into()).unwrap()
}

/// A row of the table with all columns of long names but the one of this number.
fn row(but: usize) -> Command {
    let column = |n: usize| (format!("{n:0>250}"), value());
    let values = (0..WIDE).filter(|n| *n != but).map(column).collect();
    Command::RowUpsert(Row { table: "t".into(), key: vec![("id".into(), value())], values })
}

struct Writer {
    folder: TempDir,
    sink: Sqlite,
    key: LedgerKey,
    next: u64,
}

impl Writer {
    async fn write(&mut self, command: &Command) {
        let (key, from) = (&self.key, self.next);
        let step = Step { key, token: Token(1), from, to: from + 1, epoch: 0, digest: "d", note: "" };
        let writes = [Write { command: Cow::Borrowed(command), origins: vec![] }];
        assert_eq!(self.sink.write(&step, &writes).await.unwrap(), Written::Applied);
        self.next += 1;
    }
}

#[test]
fn statements_of_ever_other_columns_are_forgotten() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    grows_by_less_than(
        48,
        "store::statements_of_ever_other_columns_are_forgotten",
        || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.db");
            let options = Options { name: "s".into(), path, table_prefix: String::new(), seed: None };
            let sink = Sqlite::open(options).unwrap();
            let key =
                LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: Arc::from("t"), partition: 0 } };
            let tables = vec![Table { name: "t".into(), key: vec!["id".into()] }];
            let mut writer = Writer { folder, sink, key, next: 0 };
            runtime.block_on(async {
                writer.sink.prepare("p", &Declared { tables, ..Declared::default() }).await.unwrap();
                writer.sink.claim(&writer.key, Token(1), 0).await.unwrap();
                writer.write(&row(WIDE)).await;
            });
            writer
        },
        |mut writer| {
            runtime.block_on(async {
                for but in 0..200 {
                    writer.write(&row(but)).await;
                }
            });
            writer.folder
        },
    );
}
