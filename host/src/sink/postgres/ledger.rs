//! The ledger's tables and rows, compared and set.

use tokio_postgres::Row;

use super::error::Problem;
use super::name::quoted;
use super::session::Session;
use crate::sink::{LedgerKey, Standing, Step, Token, TopicHead, Written};
use crate::source::TopicFacts;

/// The version of these tables.
const VERSION: i32 = 2;
/// The advisory lock under which the tables are made and heads are entered: two replicas may start at once.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// A ledger: the sink's name, and the schema that holds the tables.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) sink: String,
    /// Quoted.
    pub(super) schema: String,
    /// As it was configured.
    pub(super) schema_name: String,
}

impl Ledger {
    pub(super) fn new(sink: &str, schema: &str) -> Self {
        Self { sink: sink.to_owned(), schema: quoted(schema), schema_name: schema.to_owned() }
    }

    /// Whether the pipeline has started on this sink before.
    pub(super) async fn has_head(&self, session: &mut Session, pipeline: &str) -> Result<bool, Problem> {
        let sql = format!("SELECT 1 FROM {}.pipelines WHERE pipeline = $1 AND sink = $2", self.schema);
        match session.query(&sql, &[&pipeline, &self.sink]).await {
            Ok(rows) => Ok(!rows.is_empty()),
            // No tables yet: no one has started.
            Err(Problem::NoTable(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Makes the tables and the pipeline's head where they are missing.
    pub(super) async fn prepare(&self, session: &mut Session, pipeline: &str) -> Result<(), Problem> {
        session.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
        match self.version(session).await? {
            Some(VERSION) => {}
            Some(other) => {
                return Err(Problem::Stop(format!(
                    "schema {} is of version {other}, this program writes version {VERSION}: give the sink another \
                     ledger_schema",
                    self.schema_name
                )));
            }
            None => self.create(session).await?,
        }
        if !self.has_head(session, pipeline).await? {
            self.make_head(session, pipeline).await?;
        }
        session.run("COMMIT").await
    }

    /// What is in the way of making the tables, if anything.
    pub(super) async fn inspect(&self, session: &mut Session) -> Result<Option<String>, Problem> {
        if self.version(session).await?.is_some() {
            return Ok(None);
        }
        let sql = "SELECT current_user::text, current_database()::text,
                          (SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE')
                           FROM pg_namespace WHERE nspname = $1),
                          has_database_privilege(current_database(), 'CREATE')";
        let rows = session.query(sql, &[&self.schema_name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (user, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (schema, may): (Option<bool>, bool) = (row.try_get(2)?, row.try_get(3)?);
        Ok(match schema {
            Some(true) => None,
            Some(false) => Some(self.grant(&user)),
            None if may => None,
            None => Some(format!(
                "the schema {} for the ledger is not there, and {user} may not create it in {database}: \
                 CREATE SCHEMA {} AUTHORIZATION {}",
                self.schema_name,
                self.schema,
                quoted(&user)
            )),
        })
    }

    fn grant(&self, user: &str) -> String {
        format!(
            "{user} may not create tables in the schema {} of the ledger: GRANT USAGE, CREATE ON SCHEMA {} TO {}",
            self.schema_name,
            self.schema,
            quoted(user)
        )
    }

    async fn version(&self, session: &mut Session) -> Result<Option<i32>, Problem> {
        let table = format!("{}.version", self.schema);
        let there = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = $1 AND c.relname = 'version'";
        if session.query(there, &[&self.schema_name]).await?.is_empty() {
            return Ok(None);
        }
        let rows = session.query(&format!("SELECT version FROM {table}"), &[]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    async fn create(&self, session: &mut Session) -> Result<(), Problem> {
        if let Some(obstacle) = self.inspect(session).await? {
            return Err(Problem::Stop(obstacle));
        }
        let there = session.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&self.schema_name]).await?;
        if there.is_empty() {
            session.run(&format!("CREATE SCHEMA {}", self.schema)).await?;
        }
        // Rows of the ledger are updated with each batch. A page that is mostly empty takes the new versions without
        // touching the index, and vacuum comes often, however small the table is.
        session
            .run(&format!(
                "CREATE TABLE {0}.version (version integer NOT NULL);
                 INSERT INTO {0}.version VALUES ({VERSION});
                 CREATE TABLE {0}.pipelines (
                     pipeline text, sink text, created_at timestamptz NOT NULL DEFAULT now(),
                     PRIMARY KEY (pipeline, sink));
                 CREATE TABLE {0}.topics (
                     pipeline text, sink text, topic text,
                     partitions bigint NOT NULL, topic_id text, epoch integer NOT NULL,
                     PRIMARY KEY (pipeline, sink, topic));
                 CREATE TABLE {0}.history (
                     pipeline text, sink text, topic text, partition bigint, from_offset bigint,
                     digests text NOT NULL, changed_at timestamptz NOT NULL,
                     PRIMARY KEY (pipeline, sink, topic, partition, from_offset));
                 CREATE TABLE {0}.ledger (
                     pipeline text, sink text, topic text, partition bigint,
                     token text NOT NULL, next_offset bigint NOT NULL,
                     digest text NOT NULL DEFAULT '', note text NOT NULL DEFAULT '',
                     updated_at timestamptz NOT NULL DEFAULT now(),
                     PRIMARY KEY (pipeline, sink, topic, partition)
                 ) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
                self.schema
            ))
            .await
    }

    async fn make_head(&self, session: &mut Session, pipeline: &str) -> Result<(), Problem> {
        let sql = format!("SELECT count(*) FROM {}.ledger WHERE pipeline = $1 AND sink = $2", self.schema);
        let rows = session.query(&sql, &[&pipeline, &self.sink]).await?;
        let count: i64 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
        if count > 0 {
            return Err(Problem::Stop(format!(
                "pipeline {pipeline} has {count} rows in {0}.ledger and none in {0}.pipelines: part of the ledger was \
                 deleted; restore it, or delete those rows too to begin afresh",
                self.schema_name
            )));
        }
        let sql = format!("INSERT INTO {}.pipelines (pipeline, sink) VALUES ($1, $2)", self.schema);
        session.execute(&sql, &[&pipeline, &self.sink]).await?;
        Ok(())
    }

    /// Enters a topic, or replaces what is held of it, and answers what is held then.
    pub(super) async fn enter_topic(
        &self,
        session: &mut Session,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, Problem> {
        let action = if replace {
            "UPDATE SET partitions = excluded.partitions, topic_id = excluded.topic_id, epoch = excluded.epoch"
        } else {
            "NOTHING"
        };
        let sql = format!(
            "INSERT INTO {}.topics VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (pipeline, sink, topic) DO {action}",
            self.schema
        );
        let (partitions, epoch) = (i64::from(head.facts.partitions), i32::from(head.epoch));
        session.execute(&sql, &[&pipeline, &self.sink, &topic, &partitions, &head.facts.id, &epoch]).await?;
        let sql = format!(
            "SELECT partitions, topic_id, epoch FROM {}.topics WHERE pipeline = $1 AND sink = $2 AND topic = $3",
            self.schema
        );
        let rows = session.query(&sql, &[&pipeline, &self.sink, &topic]).await?;
        let Some(row) = rows.first() else {
            return Err(Problem::Retry(format!("the topic {topic} was deleted from the ledger just now")));
        };
        let tampered = || Problem::Stop(format!("{}.topics holds no sense for {topic}: restore it", self.schema_name));
        let partitions = u32::try_from(row.try_get::<_, i64>(0)?).map_err(|_| tampered())?;
        let epoch = u16::try_from(row.try_get::<_, i32>(2)?).map_err(|_| tampered())?;
        Ok(TopicHead { facts: TopicFacts { partitions, id: row.try_get(1)? }, epoch })
    }

    /// Takes a partition over, in one statement; also where its row lies.
    pub(super) async fn claim(
        &self,
        session: &mut Session,
        key: &LedgerKey,
        token: Token,
        start: u64,
    ) -> Result<(Standing, String), Problem> {
        // Whoever replaces the tables locks the head, so that no row is made meanwhile.
        // A row that is inserted has no xmax; one that is updated bears this transaction there.
        let sql = format!(
            "INSERT INTO {0}.ledger AS held (pipeline, sink, topic, partition, token, next_offset)
             SELECT pipeline, sink, $3, $4, $5, $6 FROM {0}.pipelines WHERE pipeline = $1 AND sink = $2 FOR KEY SHARE
             ON CONFLICT (pipeline, sink, topic, partition)
             DO UPDATE SET token = excluded.token, updated_at = now()
             RETURNING next_offset, note, xmax <> 0, ctid::text",
            self.schema
        );
        let LedgerKey { pipeline, partition } = key;
        let (topic, number) = (&*partition.topic, i64::from(partition.partition));
        let (token, start) = (text(token), signed(start)?);
        let claimed = session.query(&sql, &[pipeline, &self.sink, &topic, &number, &token, &start]).await;
        let rows = match claimed {
            Ok(rows) => rows,
            Err(Problem::NoTable(_)) => Vec::new(),
            Err(other) => return Err(other),
        };
        let Some(row) = rows.first() else {
            return Err(Problem::Stop(format!(
                "pipeline {pipeline} is not entered in {}.pipelines: its ledger was deleted while it ran; restart to \
                 begin afresh",
                self.schema_name
            )));
        };
        let standing = Standing { next: self.offset(key, row, 0)?, known: row.try_get(2)?, note: row.try_get(1)? };
        Ok((standing, row.try_get(3)?))
    }

    /// Moves the ledger: where the row lies then, or why it was not moved. `ctid` is where it lay; by key it is only
    /// looked for when it is not there any more, since old versions of a row that a long report still sees make that
    /// slow. So it is when the digests change, which goes into the history.
    pub(super) async fn advance(
        &self,
        session: &mut Session,
        step: &Step<'_>,
        ctid: Option<&String>,
    ) -> Result<Result<String, Written>, Problem> {
        match self.try_advance(session, step, ctid).await {
            Err(Problem::NoTable(_)) => Ok(Err(Written::LedgerMissing)),
            Ok(Ok((ctid, changed))) => {
                if changed {
                    self.enter_change(session, step).await?;
                }
                Ok(Ok(ctid))
            }
            Ok(Err(refused)) => Ok(Err(refused)),
            Err(other) => Err(other),
        }
    }

    /// As [`Ledger::advance`], and whether the digests are others than before.
    async fn try_advance(
        &self,
        session: &mut Session,
        step: &Step<'_>,
        ctid: Option<&String>,
    ) -> Result<Result<(String, bool), Written>, Problem> {
        let update = format!(
            "UPDATE {}.ledger SET next_offset = $1, digest = $2, note = $3, updated_at = now()
             WHERE pipeline = $4 AND sink = $5 AND topic = $6 AND partition = $7 AND token = $8 AND next_offset = $9",
            self.schema
        );
        let LedgerKey { pipeline, partition } = step.key;
        let (from, to) = (signed(step.from)?, signed(step.to)?);
        let (topic, number) = (&*partition.topic, i64::from(partition.partition));
        let token = text(step.token);
        if let Some(ctid) = ctid {
            let sql = format!("{update} AND ctid = $10::text::tid AND digest = $2 RETURNING ctid::text");
            let rows = session
                .query(
                    &sql,
                    &[&to, &step.digest, &step.note, pipeline, &self.sink, &topic, &number, &token, &from, ctid],
                )
                .await?;
            if let Some(row) = rows.first() {
                return Ok(Ok((row.try_get(0)?, false)));
            }
        }
        let sql = format!(
            "SELECT digest <> $7 FROM {}.ledger
             WHERE pipeline = $1 AND sink = $2 AND topic = $3 AND partition = $4 AND token = $5 AND next_offset = $6
             FOR UPDATE",
            self.schema
        );
        let stands = session.query(&sql, &[pipeline, &self.sink, &topic, &number, &token, &from, &step.digest]).await?;
        if let Some(stands) = stands.first() {
            let sql = format!("{update} RETURNING ctid::text");
            let rows = session
                .query(&sql, &[&to, &step.digest, &step.note, pipeline, &self.sink, &topic, &number, &token, &from])
                .await?;
            if let Some(row) = rows.first() {
                return Ok(Ok((row.try_get(0)?, stands.try_get(0)?)));
            }
        }
        let rows = session.query(&self.row(), &[pipeline, &self.sink, &topic, &number]).await?;
        let Some(row) = rows.first() else { return Ok(Err(Written::LedgerMissing)) };
        // The token is compared as text, and told apart here by whether it was ours.
        let held: String = row.try_get(0)?;
        if held != token {
            return Ok(Err(Written::Fenced));
        }
        Ok(Err(step.refused(step.token, self.offset(step.key, row, 1)?)))
    }

    /// Whose each partition is, and where it stands, in one request. What is no token is nobody's.
    pub(super) async fn positions(
        &self,
        session: &mut Session,
        keys: &[LedgerKey],
    ) -> Result<Vec<Option<(Token, u64)>>, Problem> {
        let sql = format!(
            "SELECT asked.place, held.token, held.next_offset
             FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS asked (pipeline, topic, partition, place)
             JOIN {}.ledger held USING (pipeline, topic, partition) WHERE held.sink = $1",
            self.schema
        );
        let pipelines: Vec<&str> = keys.iter().map(|key| key.pipeline.as_str()).collect();
        let topics: Vec<&str> = keys.iter().map(|key| &*key.partition.topic).collect();
        let numbers: Vec<i64> = keys.iter().map(|key| i64::from(key.partition.partition)).collect();
        let rows = session.query(&sql, &[&self.sink, &pipelines, &topics, &numbers]).await?;
        let mut positions = vec![None; keys.len()];
        for row in &rows {
            let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
            if let (Some(key), Some(position)) = (keys.get(place), positions.get_mut(place)) {
                let token = u128::from_str_radix(row.try_get(1)?, 16).unwrap_or_default();
                *position = Some((Token(token), self.offset(key, row, 2)?));
            }
        }
        Ok(positions)
    }

    /// Reads the token and the next offset of a partition.
    fn row(&self) -> String {
        format!(
            "SELECT token, next_offset FROM {}.ledger
             WHERE pipeline = $1 AND sink = $2 AND topic = $3 AND partition = $4",
            self.schema
        )
    }

    fn offset(&self, key: &LedgerKey, row: &Row, column: usize) -> Result<u64, Problem> {
        let next: i64 = row.try_get(column)?;
        u64::try_from(next).map_err(|_| {
            Problem::Stop(format!(
                "{}.ledger has {} stand at {next}: it was tampered with; restore it",
                self.schema_name, key.partition
            ))
        })
    }
}

pub(super) fn text(token: Token) -> String {
    format!("{:032x}", token.0)
}

pub(super) fn signed(offset: u64) -> Result<i64, Problem> {
    i64::try_from(offset).map_err(|_| Problem::Stop(format!("offset {offset} is beyond what Kafka can have")))
}
