//! Which rows of a batch a constraint refuses that waits for the end of the transaction. The server names none.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Problem;
use super::rows::{Change, Kind, Known, single};
use super::session::Session;
use super::write::{MISSING, Writer, refusal};
use crate::command::collapse::Origin;
use crate::sink::{Step, Write, Written};

/// Has the constraints speak of what was written so far.
const AT_ONCE: &str = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; ";
/// Of how many answers each is left out once, to find the one whose rows keep those of the others from being right.
const LEFT_OUT: usize = 32;

impl Writer<'_> {
    /// Finds the rows at fault. What other rows of the batch make good is none of them, in whichever order these come:
    /// those refused are tried again until that changes nothing, and then several together, since rows may need each
    /// other. It is kept where each row was taken in its place.
    pub(super) async fn deferred(
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
        let mut left: Vec<usize> = (0..changes.len()).collect();
        let mut reasons = self.refused(session, changes, known, &left).await?;
        if reasons.is_empty() {
            // What was found at the end of the transaction is the doing of several rows, as of a trigger that looks at
            // what they were before.
            session.run("COMMIT").await?;
            return Ok((Written::Applied, Some(ctid)));
        }
        left.retain(|index| reasons.contains_key(index));
        left.reverse();
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
        reasons.retain(|index, _| left.contains(index));
        session.run("ROLLBACK").await?;
        if reasons.is_empty() {
            return self.answer_by_answer(session, step, writes, changes, known).await;
        }
        Ok((refusal(reasons, changes)?, None))
    }

    /// Writes each answer as if it were a batch by itself. For rows that are taken in another order than their own only,
    /// in which they must not be kept.
    async fn answer_by_answer(
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
        let mut first = 0;
        for answer in writes.chunk_by(|one, next| one.origins.last() == next.origins.last()) {
            let set: Vec<usize> = (first..first + answer.len()).collect();
            first += answer.len();
            if let Err(problem) = self.taken_together(session, changes, known, &set).await? {
                reasons.extend(set.last().map(|index| (*index, problem)));
            }
        }
        if reasons.is_empty() {
            session.run("COMMIT").await?;
            return Ok((Written::Applied, Some(ctid)));
        }
        self.rolled_back(session, refusal(reasons, changes)?).await
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
            if self.taken_together(session, changes, known, &set).await?.is_ok() {
                left.retain(|index| !set.contains(index));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes these rows, or leaves everything as it was and answers why.
    async fn taken_together(
        &self,
        session: &mut Session,
        changes: &[Change<'_>],
        known: &Known<'_>,
        set: &[usize],
    ) -> Result<Result<(), Problem>, Problem> {
        session.run("SAVEPOINT several").await?;
        let tried = async {
            for change in set.iter().filter_map(|index| changes.get(*index)) {
                let (sql, json) = single(*change, known, self.schema)?;
                let touched = session.execute(&sql, &[&json]).await?;
                if change.kind == Kind::Merge && touched == 0 {
                    return Err(Problem::Bad(MISSING.into()));
                }
            }
            session.run(&format!("{AT_ONCE}RELEASE SAVEPOINT several")).await
        };
        match tried.await {
            Ok(()) => Ok(Ok(())),
            Err(problem) if problem.may_be_of_a_row() => {
                session.run("ROLLBACK TO SAVEPOINT several; RELEASE SAVEPOINT several").await?;
                Ok(Err(problem))
            }
            Err(other) => Err(other),
        }
    }
}
