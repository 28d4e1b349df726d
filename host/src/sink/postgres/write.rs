//! One batch: the ledger's step and the rows, in one transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::catalog;
use super::error::Problem;
use super::ledger::Ledger;
use super::name::{TableName, reserved};
use super::rows::{Change, Group, Kind, Known, conversions, group, harmless, single};
use super::session::Session;
use crate::sink::{BadWrite, Step, Write, Written};

/// Constraints that wait for the end of the transaction are to speak before it, while there still is one.
const COMMIT: &str = "SET CONSTRAINTS ALL IMMEDIATE; COMMIT";

/// What is told of a merge whose row is not there.
pub(super) const MISSING: &str = "there is no row to merge into";

/// What the batches of a partition have in common.
pub(super) struct Writer<'a> {
    pub(super) ledger: &'a Ledger,
    /// Where tables without a schema are.
    pub(super) schema: &'a str,
}

impl Writer<'_> {
    /// Writes a batch; also where the ledger's row lies, when it was moved. After an error the session is in the
    /// middle of something.
    pub(super) async fn write(
        &self,
        session: &mut Session,
        step: &Step<'_>,
        ctid: Option<&String>,
        writes: &[Write<'_>],
    ) -> Result<(Written, Option<String>), Problem> {
        let changes = writes.iter().map(Change::new).collect::<Result<Vec<_>, _>>()?;
        session.begin().await?;
        let ctid = match self.ledger.advance(session, step, ctid).await? {
            Ok(ctid) => ctid,
            Err(refused) => return self.rolled_back(session, refused).await,
        };
        let known = self.known(session, &changes).await?;
        let all = match self.all_at_once(session, &changes, &known).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::Bad(String::new())),
            Err(problem) => Err(problem),
        };
        match all {
            Ok(()) => Ok((Written::Applied, Some(ctid))),
            Err(problem) if problem.may_be_of_a_row() => {
                session.run("ROLLBACK").await?;
                self.one_by_one(session, step, writes, &changes, &known).await
            }
            Err(other) => Err(other),
        }
    }

    pub(super) async fn rolled_back(
        &self,
        session: &Session,
        answer: Written,
    ) -> Result<(Written, Option<String>), Problem> {
        session.run("ROLLBACK").await?;
        Ok((answer, None))
    }

    async fn known<'a>(&self, session: &mut Session, changes: &[Change<'a>]) -> Result<Known<'a>, Problem> {
        let mut known = Known::new();
        let mut last = None;
        for Change { row, .. } in changes {
            let table = row.table.as_str();
            if last.replace(table) == Some(table) || known.contains_key(table) {
                continue;
            }
            let facts = match session.facts.get(table) {
                Some(facts) => facts.clone(),
                None => {
                    let mut facts = catalog::facts(session, &TableName::new(table, self.schema)).await?;
                    facts.reserved = reserved(table, &self.ledger.schema_name);
                    let facts = Arc::new(facts);
                    session.facts.insert(table.to_owned(), facts.clone());
                    facts
                }
            };
            known.insert(table, facts);
        }
        known.retain(|_, facts| !facts.are_none());
        Ok(known)
    }

    /// Writes many rows a statement and commits; false, and nothing is committed, when a row to merge into is missing.
    async fn all_at_once(
        &self,
        session: &mut Session,
        changes: &[Change<'_>],
        known: &Known<'_>,
    ) -> Result<bool, Problem> {
        let groups = group(changes, known)?;
        let merged: Vec<Option<u64>> = groups.iter().map(Group::merged).collect();
        let statements: Vec<_> = groups.into_iter().map(|group| group.statement(self.schema)).collect();
        if !statements.is_empty() && merged.iter().all(Option::is_none) {
            // Nothing is to be looked at before. After a failure the server refuses the whole of it.
            session.execute_all(&statements, Some(COMMIT)).await?;
            return Ok(true);
        }
        let touched = session.execute_all(&statements, None).await?;
        let all = merged.into_iter().zip(touched).all(|(merged, touched)| merged.is_none_or(|rows| rows == touched));
        if all {
            session.run(COMMIT).await?;
        }
        Ok(all)
    }

    /// Writes each row by itself and in order, to find all the bad ones. Only when there is none after all is anything
    /// kept: one row was meant under two spellings of its key, or another partition has just made the row that a merge
    /// missed.
    async fn one_by_one(
        &self,
        session: &mut Session,
        step: &Step<'_>,
        writes: &[Write<'_>],
        changes: &[Change<'_>],
        known: &Known<'_>,
    ) -> Result<(Written, Option<String>), Problem> {
        session.begin().await?;
        let ctid = match self.ledger.advance(session, step, None).await? {
            Ok(ctid) => ctid,
            Err(refused) => return self.rolled_back(session, refused).await,
        };
        let mut reasons = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            if let Err(problem) = self.tried(session, *change, known, "").await? {
                reasons.insert(index, problem);
            }
        }
        if reasons.is_empty() {
            match session.run(COMMIT).await {
                Ok(()) => return Ok((Written::Applied, Some(ctid))),
                Err(problem) if problem.may_be_of_a_row() => {
                    session.run("ROLLBACK").await?;
                    return self.deferred(session, step, writes, changes, known).await;
                }
                Err(other) => return Err(other),
            }
        }
        self.rolled_back(session, refusal(reasons, changes)?).await
    }

    /// Writes one row, or leaves everything as it was and answers why. `check` is run after it. What is in doubt is
    /// answered where the statement passes without the row.
    pub(super) async fn tried(
        &self,
        session: &mut Session,
        change: Change<'_>,
        known: &Known<'_>,
        check: &str,
    ) -> Result<Result<(), Problem>, Problem> {
        if let Err(problem) = change.check(change.facts(known)) {
            return Ok(Err(problem));
        }
        session.run("SAVEPOINT one").await?;
        let tried = async {
            let (sql, json) = single(change, known, self.schema)?;
            let touched = session.execute(&sql, &[&json]).await?;
            if change.kind == Kind::Merge && touched == 0 {
                return Err(Problem::Bad(MISSING.into()));
            }
            session.run(&format!("{check}RELEASE SAVEPOINT one")).await
        }
        .await;
        match tried.map_err(|problem| whose(problem, session, change)) {
            Ok(()) => Ok(Ok(())),
            Err(mut problem) if problem.may_be_of_a_row() => {
                session.run("ROLLBACK TO SAVEPOINT one").await?;
                let in_doubt = matches!(problem, Problem::Doubt(_));
                if in_doubt {
                    let (sql, json) = harmless(change, self.schema);
                    session.execute(&sql, &[&json]).await?;
                    session.run(&format!("{check}ROLLBACK TO SAVEPOINT one")).await?;
                }
                let column = match &problem {
                    Problem::Clash(_) => None,
                    Problem::Bad(text) if text.contains("column") => None,
                    _ => self.culprit(session, change, known).await?,
                };
                // What may pass is the row's own where a value of it cannot be read, and else where other rows are taken.
                if in_doubt && column.is_some() {
                    problem = Problem::Bad(problem.text().to_owned());
                } else if in_doubt && !problem.may_pass() {
                    problem = Problem::Raised(problem.text().to_owned());
                }
                session.run("RELEASE SAVEPOINT one").await?;
                let key: Vec<_> = change.row.key.iter().map(|(_, value)| value.get()).collect();
                let place = match column {
                    Some(column) => format!("table {:?}, key {}, column {column:?}", change.row.table, key.join(", ")),
                    None => format!("table {:?}, key {}", change.row.table, key.join(", ")),
                };
                Ok(Err(problem.map(|text| format!("{place}: {text}"))))
            }
            Err(other) => Err(other),
        }
    }

    /// The column whose value cannot be converted to its type. The server does not name it.
    async fn culprit(
        &self,
        session: &mut Session,
        change: Change<'_>,
        known: &Known<'_>,
    ) -> Result<Option<String>, Problem> {
        for (column, sql, json) in conversions(change, known, self.schema) {
            match session.execute(&sql, &[&json]).await {
                Ok(_) => {}
                Err(Problem::Bad(_) | Problem::Raised(_) | Problem::Doubt(_) | Problem::NoColumn(_)) => {
                    session.run("ROLLBACK TO SAVEPOINT one").await?;
                    return Ok(Some(column.to_owned()));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }
}

/// Whose matter it is that a column is not there: the table's, where it had each that the row names when this session saw
/// it first; else the row's, for a transform alone decides which columns it names.
fn whose(problem: Problem, session: &Session, change: Change<'_>) -> Problem {
    let Problem::NoColumn(text) = problem else { return problem };
    let had = session.facts.get(&change.row.table).map(|facts| &facts.columns);
    let names = change.row.key.iter().chain(&change.row.values).map(|(name, _)| name);
    let is_gone = had.is_some_and(|had| names.into_iter().all(|name| had.contains(name)));
    if is_gone { Problem::Stop(text) } else { Problem::Bad(text) }
}

/// What to answer where these rows were refused, of all that were tried. A row that is still in doubt is to blame where
/// another one of its table was taken.
pub(super) fn refusal(reasons: BTreeMap<usize, Problem>, changes: &[Change<'_>]) -> Result<Written, Problem> {
    let all = changes.iter().enumerate();
    let taken = all.filter(|(index, _)| !reasons.contains_key(index)).map(|(_, change)| change.row.table.as_str());
    let taken: HashSet<&str> = taken.collect();
    let (mut bad, mut clashes) = (Vec::new(), false);
    for (index, problem) in reasons {
        let clash = matches!(problem, Problem::Clash(_));
        let others_are_taken = || changes.get(index).is_some_and(|change| taken.contains(change.row.table.as_str()));
        if matches!(problem, Problem::Doubt(_)) && !others_are_taken() {
            return Err(problem);
        }
        clashes |= clash;
        let by_trigger = matches!(problem, Problem::Raised(_) | Problem::Doubt(_));
        bad.push(BadWrite { index, clash, by_trigger, reason: problem.text().to_owned() });
    }
    Ok(if clashes { Written::Clashes(bad) } else { Written::Rejected(bad) })
}
