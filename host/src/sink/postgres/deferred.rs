//! Which rows of a batch a constraint refuses that waits for the end of the transaction. The server names none.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Problem;
use super::rows::{Change, Kind, Known, single};
use super::session::Session;
use super::write::{Refusals, Writer};
use crate::command::collapse::Origin;
use crate::sink::{Step, Write, Written};

/// Has the constraints speak of what was written so far.
const AT_ONCE: &str = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; ";
/// Of how many answers each is left out once, to find the one whose rows keep those of the others from being right.
const LEFT_OUT: usize = 32;

impl Writer<'_> {
    /// Finds the rows at fault. What other rows of the batch make good is none of them, in whichever order these come:
    /// those refused are tried again until that changes nothing, and then several together, since rows may need each
    /// other. Nothing of it is kept.
    pub(super) async fn deferred(
        &self,
        session: &mut Session,
        step: &Step<'_>,
        writes: &[Write<'_>],
        changes: &[Change<'_>],
        known: &Known<'_>,
    ) -> Result<(Written, Option<String>), Problem> {
        session.begin().await?;
        if let Err(refused) = self.ledger.advance(session, step, None).await? {
            return self.rolled_back(session, refused).await;
        }
        let mut left: Vec<usize> = (0..changes.len()).collect();
        let mut reasons = BTreeMap::new();
        loop {
            let before = left.len();
            // Forth and back: of rows that hang on each other like a chain, one end is to be written first.
            for _ in 0..2 {
                reasons = self.refused(session, changes, known, &left).await?;
                left.retain(|index| reasons.contains_key(index));
                left.reverse();
            }
            let is_stuck = left.len() == before;
            if left.is_empty() || (is_stuck && !self.some_together(session, writes, changes, known, &mut left).await?) {
                break;
            }
        }
        let mut refusals = Refusals::default();
        for (index, problem) in reasons.into_iter().filter(|(index, _)| left.contains(index)) {
            refusals.add(index, problem);
        }
        if refusals.is_empty() {
            return Err(Problem::Retry(
                "a deferred constraint refused the batch, and each of its rows it does not".into(),
            ));
        }
        self.rolled_back(session, refusals.into()).await
    }

    /// Writes each row by itself; why those were refused that were.
    async fn refused(
        &self,
        session: &mut Session,
        changes: &[Change<'_>],
        known: &Known<'_>,
        left: &[usize],
    ) -> Result<BTreeMap<usize, Problem>, Problem> {
        let mut reasons = BTreeMap::new();
        for (index, change) in left.iter().filter_map(|index| Some((*index, *changes.get(*index)?))) {
            if let Err(problem) = self.tried(session, change, known, AT_ONCE).await? {
                reasons.insert(index, problem);
            }
        }
        Ok(reasons)
    }

    /// Writes some of the rows that are left, whole answers of them; whether any can be written.
    async fn some_together(
        &self,
        session: &mut Session,
        writes: &[Write<'_>],
        changes: &[Change<'_>],
        known: &Known<'_>,
        left: &mut Vec<usize>,
    ) -> Result<bool, Problem> {
        let answer = |index: &usize| writes.get(*index).and_then(|write| write.origins.last().copied());
        let answers: BTreeSet<Option<Origin>> = left.iter().map(answer).collect();
        let some = |is_in: &dyn Fn(Option<Origin>) -> bool| -> Vec<usize> {
            left.iter().copied().filter(|index| is_in(answer(index))).collect()
        };
        let mut sets = vec![left.clone()];
        sets.extend(answers.iter().map(|one| some(&|origin| origin == *one)));
        if answers.len() <= LEFT_OUT {
            sets.extend(answers.iter().map(|one| some(&|origin| origin != *one)));
        }
        for set in sets.into_iter().filter(|set| set.len() > 1) {
            if self.taken_together(session, changes, known, &set).await? {
                left.retain(|index| !set.contains(index));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes these rows, or leaves everything as it was.
    async fn taken_together(
        &self,
        session: &mut Session,
        changes: &[Change<'_>],
        known: &Known<'_>,
        set: &[usize],
    ) -> Result<bool, Problem> {
        session.run("SAVEPOINT several").await?;
        let tried = async {
            for change in set.iter().filter_map(|index| changes.get(*index)) {
                let (sql, json) = single(*change, known, self.schema)?;
                let touched = session.execute(&sql, &[&json]).await?;
                if change.kind == Kind::Merge && touched == 0 {
                    return Ok(false);
                }
            }
            session.run(&format!("{AT_ONCE}RELEASE SAVEPOINT several")).await?;
            Ok(true)
        };
        match tried.await {
            Ok(true) => Ok(true),
            Ok(false) | Err(Problem::Bad(_) | Problem::Clash(_)) => {
                session.run("ROLLBACK TO SAVEPOINT several; RELEASE SAVEPOINT several").await?;
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }
}
