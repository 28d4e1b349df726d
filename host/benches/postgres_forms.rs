//! The forms in which the rows of a batch can reach PostgreSQL, side by side in one run: JSON text that the server
//! takes apart by the table's types (what the sink does), arrays of text by column through `UNNEST`, and `COPY` into a
//! temporary table with a merge from there. Each turn is one transaction that upserts 500 rows of ten columns, some 350
//! bytes, and moves a ledger's row first.
//!
//! The forms take turns, a batch each, so that whatever else the machine does meets all of them; the figure is the
//! median, on one connection.
//!
//! | form | rows/s | again |
//! |---|---|---|
//! | `json_populate_recordset` | 58 300 | 41 100 |
//! | `UNNEST` of text arrays | 75 700 | 52 500 |
//! | `COPY` and merge | 74 600 | 46 500 |
//!
//! (PostgreSQL 15, two cores shared with other work, two runs.) JSON reaches 0.77 to 0.88 of the others and is what the
//! sink does all the same: the others need each value in the text form of its column's type, so that the host would have
//! to know the types and turn JSON into arrays and composites itself, and be wrong after an `ALTER TABLE`. That work is
//! not in their figures.
//!
//! `POSTGRES_URL=postgres://postgres@localhost:5432/scratch cargo bench -p tidegate --bench postgres_forms`: the
//! database gets the tables `forms` and `forms_ledger`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::io::Cursor;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, CopyInSink, NoTls, Statement};

const TURNS: usize = 200;
const ROWS: usize = 500;
/// Few enough to be written again and again.
const KEYS: usize = 20_000;
const COLUMNS: [(&str, &str); 10] = [
    ("id", "bigint"),
    ("customer_id", "uuid"),
    ("status", "text"),
    ("fee", "numeric(12,2)"),
    ("paid", "boolean"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
    ("address", "jsonb"),
    ("tags", "text[]"),
    ("note", "text"),
];

/// A row as the values of its columns: plain text, and whether JSON quotes it.
fn row(turn: usize, place: usize) -> [(String, bool); 10] {
    let id = (turn * ROWS + place) * 7919 % KEYS;
    [
        (id.to_string(), false),
        (format!("00000000-0000-4000-8000-{id:012}"), true),
        ("shipped".into(), true),
        (format!("{}.{:02}", id * 3, turn % 100), false),
        ("true".into(), false),
        ("2026-01-02T03:04:05.678901Z".into(), true),
        (format!("2026-03-04T05:06:{:02}Z", turn % 60), true),
        (format!(r#"{{"street": "Long Street {id}", "city": "Somewhere", "zip": "{id:05}"}}"#), false),
        (r#"{"new","priority"}"#.into(), false),
        (format!("{id:x<60}"), true),
    ]
}

#[derive(Debug)]
struct Json(String);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }

    to_sql_checked!();
}

fn json(turn: usize) -> Json {
    let mut text = String::from("[");
    for place in 0..ROWS {
        text.push_str(if place == 0 { "{" } else { ",{" });
        for (at, ((name, of), (value, quoted))) in COLUMNS.iter().zip(row(turn, place)).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match (*of, quoted) {
                ("text[]", _) => write!(text, r#"{comma}"{name}":["new","priority"]"#).unwrap(),
                (_, true) => write!(text, "{comma}\"{name}\":\"{value}\"").unwrap(),
                (_, false) => write!(text, "{comma}\"{name}\":{value}").unwrap(),
            }
        }
        text.push('}');
    }
    text.push(']');
    Json(text)
}

fn arrays(turn: usize) -> Vec<Vec<String>> {
    let mut columns = vec![Vec::with_capacity(ROWS); COLUMNS.len()];
    for place in 0..ROWS {
        for (column, (value, _)) in columns.iter_mut().zip(row(turn, place)) {
            column.push(value);
        }
    }
    columns
}

fn lines(turn: usize) -> Vec<u8> {
    let mut text = String::new();
    for place in 0..ROWS {
        for (at, (value, _)) in row(turn, place).into_iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "\t" });
            text.push_str(&value.replace('\\', "\\\\"));
        }
        text.push('\n');
    }
    text.into_bytes()
}

struct Forms {
    client: Client,
    ledger: Statement,
    json: Statement,
    unnest: Statement,
    copy: Statement,
    merge: Statement,
}

impl Forms {
    async fn new(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("POSTGRES_URL names a server");
        tokio::spawn(connection);
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        let declared = COLUMNS.map(|(name, of)| format!("{name} {of}")).join(", ");
        let set = COLUMNS[1..].iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect::<Vec<_>>();
        let conflict = format!("ON CONFLICT (id) DO UPDATE SET {}", set.join(", "));
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS forms, forms_ledger; CREATE TABLE forms ({declared}, PRIMARY KEY (id));
                 CREATE TABLE forms_ledger (id int PRIMARY KEY, next bigint) WITH (fillfactor = 10);
                 INSERT INTO forms_ledger VALUES (1, 0);
                 CREATE TEMPORARY TABLE staged (LIKE forms) ON COMMIT DELETE ROWS"
            ))
            .await
            .unwrap();
        let arrays = (1..=COLUMNS.len()).map(|at| format!("${at}::text[]")).collect::<Vec<_>>().join(", ");
        let typed = COLUMNS.map(|(name, of)| format!("u.{name}::{of}")).join(", ");
        let prepare = async |sql: String| client.prepare(&sql).await.unwrap();
        let ledger = prepare("UPDATE forms_ledger SET next = next + 1 WHERE id = 1".into()).await;
        let json = prepare(format!(
            "INSERT INTO forms ({names}) SELECT {names} FROM json_populate_recordset(NULL::forms, $1) {conflict}"
        ))
        .await;
        let unnest = prepare(format!(
            "INSERT INTO forms ({names}) SELECT {typed} FROM unnest({arrays}) AS u({names}) {conflict}"
        ))
        .await;
        let copy = prepare(format!("COPY staged ({names}) FROM STDIN")).await;
        let merge = prepare(format!("INSERT INTO forms ({names}) SELECT {names} FROM staged {conflict}")).await;
        Self { client, ledger, json, unnest, copy, merge }
    }

    /// One turn of a form, the making of its parameters included.
    async fn turn(&self, form: usize, turn: usize) -> Duration {
        let start = Instant::now();
        self.client.batch_execute("BEGIN").await.unwrap();
        self.client.execute(&self.ledger, &[]).await.unwrap();
        let rows = match form {
            0 => self.client.execute(&self.json, &[&json(turn)]).await.unwrap(),
            1 => {
                let columns = arrays(turn);
                let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
                self.client.execute(&self.unnest, &parameters).await.unwrap()
            }
            _ => {
                let sink: CopyInSink<Cursor<Vec<u8>>> = self.client.copy_in(&self.copy).await.unwrap();
                let mut sink = pin!(sink);
                sink.send(Cursor::new(lines(turn))).await.unwrap();
                sink.as_mut().finish().await.unwrap();
                self.client.execute(&self.merge, &[]).await.unwrap()
            }
        };
        assert_eq!(rows, ROWS as u64);
        self.client.batch_execute("COMMIT").await.unwrap();
        start.elapsed()
    }
}

fn main() {
    let Ok(url) = std::env::var("POSTGRES_URL") else {
        println!("set POSTGRES_URL to a database to write into");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let forms = Forms::new(&url).await;
        let names = ["json_populate_recordset", "unnest of text arrays", "copy and merge"];
        let mut taken = [const { Vec::new() }; 3];
        for turn in 0..TURNS {
            for (form, times) in taken.iter_mut().enumerate() {
                let time = forms.turn(form, turn).await;
                // The first ones fill the table.
                if turn >= KEYS / ROWS {
                    times.push(time);
                }
            }
        }
        for (name, mut times) in names.into_iter().zip(taken) {
            times.sort_unstable();
            let median = times[times.len() / 2];
            println!(
                "{name:26} {:7.2} ms a batch, {:7.0} rows/s",
                median.as_secs_f64() * 1e3,
                ROWS as f64 / median.as_secs_f64()
            );
        }
        forms.client.batch_execute("DROP TABLE forms, forms_ledger").await.unwrap();
    });
}
