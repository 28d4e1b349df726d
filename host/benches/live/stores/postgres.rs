//! PostgreSQL: one upsert of many rows, a transaction by itself.

use async_trait::async_trait;
use tidegate::command::{Command, Row};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{NoTls, Statement};

use super::{Client, Store, Turn};
use crate::Addresses;

const TABLE: &str = "CREATE TABLE fact_orders (id text PRIMARY KEY, user_id text NOT NULL, total numeric NOT NULL, \
                     status text NOT NULL, created_at timestamptz NOT NULL)";
/// What no row is written into.
const OTHERS: &str = "CREATE TABLE fact_order_items (id text PRIMARY KEY, order_id text, book_id text, \
                          quantity integer, price_at_purchase numeric);
                      CREATE TABLE dim_books (id text PRIMARY KEY, title text, author text, price numeric, \
                          description text, cover_url text, isbn text, genre text, published_year integer, \
                          created_at timestamptz);
                      CREATE TABLE fact_inventory (book_id text PRIMARY KEY, quantity integer, reserved integer, \
                          updated_at timestamptz)";
/// The form that the sink uses, which was level with the others.
const UPSERT: &str = "INSERT INTO fact_orders (id, user_id, total, status, created_at) \
                      SELECT id, user_id, total, status, created_at \
                      FROM json_populate_recordset(NULL::fact_orders, $1) \
                      ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, total = excluded.total, \
                          status = excluded.status, created_at = excluded.created_at";

struct Postgres {
    server: String,
    database: String,
    client: tokio_postgres::Client,
}

pub(super) async fn open(addresses: &Addresses) -> Box<dyn Store> {
    let server = addresses.get("postgres").to_owned();
    let database = format!("tidegate_bench_{}", std::process::id());
    let made = format!("CREATE DATABASE {database}");
    connect(&format!("{server}/postgres")).await.batch_execute(&made).await.unwrap();
    let client = connect(&format!("{server}/{database}")).await;
    client.batch_execute(&format!("{TABLE}; {OTHERS}")).await.unwrap();
    Box::new(Postgres { server, database, client })
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[async_trait]
impl Store for Postgres {
    async fn empty(&self, _: &Turn) {
        // A checkpoint in the middle of a measurement would be no part of it.
        self.client.batch_execute("TRUNCATE fact_orders; CHECKPOINT").await.unwrap();
    }

    fn sink(&self, _: &Turn) -> String {
        format!("[sinks.store.postgres]\nurl = \"{}/{}\"", self.server, self.database)
    }

    async fn durable(&self, turn: &Turn) -> u64 {
        let sql = "SELECT sum(next_offset)::bigint FROM tidegate.ledger WHERE pipeline = $1";
        let row = self.client.query_one(sql, &[&turn.pipeline]).await.unwrap();
        row.get::<_, Option<i64>>(0).map_or(0, |sum| u64::try_from(sum).unwrap())
    }

    async fn connect(&self, _: &Turn) -> Box<dyn Client> {
        let client = connect(&format!("{}/{}", self.server, self.database)).await;
        client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        let upsert = client.prepare(UPSERT).await.unwrap();
        let look = client.prepare("SELECT 1 FROM fact_orders WHERE id = $1").await.unwrap();
        Box::new(Connection { client, upsert, look })
    }

    async fn remove(&self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        connect(&format!("{}/postgres", self.server)).await.batch_execute(&drop).await.unwrap();
    }
}

struct Connection {
    client: tokio_postgres::Client,
    upsert: Statement,
    look: Statement,
}

fn row(command: &Command) -> &Row {
    let Command::RowUpsert(row) = command else { panic!("{command:?}") };
    row
}

#[async_trait]
impl Client for Connection {
    async fn send(&self, batch: &[Command]) {
        let mut rows = String::with_capacity(200 * batch.len());
        for command in batch {
            let row = row(command);
            rows.push_str(if rows.is_empty() { "[" } else { "," });
            for (place, (name, value)) in row.key.iter().chain(&row.values).enumerate() {
                rows.push_str(if place == 0 { "{\"" } else { ",\"" });
                rows.push_str(name);
                rows.push_str("\":");
                rows.push_str(value.get());
            }
            rows.push('}');
        }
        rows.push(']');
        let written = self.client.execute(&self.upsert, &[&Json(rows)]).await.unwrap();
        assert_eq!(written, batch.len() as u64);
    }

    async fn has(&self, command: &Command) -> bool {
        let id: String = serde_json::from_str(row(command).key[0].1.get()).unwrap();
        self.client.query_opt(&self.look, &[&id]).await.unwrap().is_some()
    }
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
