//! Claims a partition's row, and writes its batches: reads the row, sends the documents, moves the row.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::before::{Before, Sent};
use super::bulk::{Bulk, Line, Taken};
use super::indexes::{self, Made};
use super::ledger::{Changed, Deleting, Place, Refused, Row};
use super::plan::{self, Plan, Targets, Versions, plan};
use super::{Elasticsearch, LedgerKey, SinkError, Standing, Step, Token, Write, Written};
use crate::command::collapse::Origin;
use crate::sink::now;

/// The most offsets that `until` is set ahead.
const AHEAD: u64 = 10_000;
/// How often a row that others change is read again.
const CONTENTIONS: usize = 5;

/// What this process knows of a partition that it claimed.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    token: Token,
    /// Offsets below may have been sent before the claim.
    open: u64,
    /// The batch that was tried last: where it begins, and the highest end it was tried with.
    tried: (u64, u64),
    /// Whether the server refused commands of that batch.
    redo: bool,
    /// The sets and merges of that batch that were refused.
    refused: Vec<Refused>,
    /// What its documents were before it.
    before: Arc<Before>,
    /// What its tries have sent of those.
    sent: Sent,
    /// What the server has taken of the tries that were rejected.
    taken: Taken,
    /// The replay that was tried last and has no answer yet.
    replay: Option<Replay>,
}

/// A replay that comes again when its answer is lost: its events, and what is known of its documents.
#[derive(Debug, Clone)]
struct Replay {
    origins: Vec<Origin>,
    before: Arc<Before>,
    sent: Sent,
}

impl Seat {
    /// Of a partition that nothing was sent of yet.
    fn new(token: Token, open: u64) -> Self {
        let (before, sent, taken) = (Arc::default(), Sent::new(), Taken::new());
        Self { token, open, tried: (0, 0), redo: false, refused: Vec::new(), before, sent, taken, replay: None }
    }

    /// Notes what is about to be sent.
    fn sends(&mut self, to: u64, lines: &[Line<'_>], writes: &[Write<'_>]) {
        self.tried.1 = self.tried.1.max(to);
        for line in lines {
            let write = line.write.and_then(|place| writes.get(place));
            let Some((index, id)) = write.and_then(|write| plan::target(&write.command)) else { continue };
            if self.before.get((index, id)).is_some() {
                let version = self.sent.entry(index.to_owned()).or_default().entry(id.to_owned()).or_default();
                *version = line.version.max(*version);
            }
        }
    }

    /// The version that a document will bear after this line, where that may be later than its body.
    fn version_behind(&self, line: &Line<'_>) -> Option<u64> {
        if line.write.is_none() {
            return Some(line.version);
        }
        // Written over what a refused answer has left.
        let sent = || self.sent.get(line.index)?.get(line.id).copied();
        if self.redo && (line.last || !line.is_among(&self.taken)) { sent() } else { None }
    }
}

impl Elasticsearch {
    fn seat(&self, step: &Step<'_>, row: &Row, writes: &[Write<'_>]) -> Seat {
        let known = self.seats().get(step.key).cloned().filter(|seat| seat.token == step.token);
        let mut seat = known.unwrap_or_else(|| Seat::new(step.token, row.until));
        let replay = seat.replay.take();
        // A replay comes between the tries of a batch, or between two batches.
        if is_replay(step) || step.from != seat.tried.0 {
            seat = Seat { tried: (step.from, 0), ..Seat::new(step.token, seat.open) };
        }
        if let Some(replay) = replay.filter(|replay| is_replay(step) && replay.origins == origins(writes)) {
            seat = Seat { before: replay.before, sent: replay.sent, ..seat };
        }
        seat
    }

    /// Remembers what a try has sent, for the next one.
    fn keep(&self, step: &Step<'_>, seat: &Seat, writes: &[Write<'_>]) {
        let mut seats = self.seats();
        if !is_replay(step) {
            seats.insert(step.key.clone(), seat.clone());
        } else if let Some(known) = seats.get_mut(step.key).filter(|known| known.token == step.token) {
            let (before, sent) = (Arc::clone(&seat.before), seat.sent.clone());
            known.replay = Some(Replay { origins: origins(writes), before, sent });
        }
    }

    pub(super) async fn claim_row(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let Some((head, _)) = self.settled_head(&key.pipeline).await? else {
            return Err(SinkError::Stop(format!(
                "pipeline {} is not entered in the ledger {}: its ledger was deleted while it ran; restart to begin afresh",
                key.pipeline, self.ledger.index
            )));
        };
        self.check_indexes(&head).await?;
        self.indexes().extend(head.indexes);
        for _ in 0..CONTENTIONS {
            let found = self.ledger.row(&self.http, key).await?;
            let known = found.is_some();
            let (mut row, place) = match found {
                Some((row, place)) => (row, Some(place)),
                None => (Row::new(token, start), None),
            };
            if row.held {
                self.not_replaced(&key.pipeline).await?;
            }
            row.own(token);
            if let Changed::Done(place) = self.ledger.set_row(&self.http, key, &row, place).await? {
                if !known {
                    // A row that a replacement could not hold, since it was not there yet.
                    self.not_replaced_behind(key, &mut row, place).await?;
                }
                let mut seats = self.seats();
                // A store that lost the ledger's last writes need not have lost the documents.
                let sent = seats.get(key).map_or(0, |seat| seat.tried.1);
                seats.insert(key.clone(), Seat::new(token, row.until.max(sent)));
                return Ok(Standing { next: row.next, known, note: row.note });
            }
        }
        Err(self.ledger.contended(&key.partition.to_string()))
    }

    pub(super) async fn write_batch(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        let written = self.try_batch(step, writes).await?;
        if is_replay(step)
            && let Some(seat) = self.seats().get_mut(step.key)
        {
            seat.replay = None;
        }
        Ok(written)
    }

    async fn try_batch(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        let Some((mut row, mut place)) = self.ledger.row(&self.http, step.key).await? else {
            return Ok(Written::LedgerMissing);
        };
        if let Some(refused) = refused(step, &row)? {
            return Ok(refused);
        }
        let mut seat = self.seat(step, &row, writes);
        // What comes once more was only in doubt.
        seat.refused.retain(|refused| !writes.iter().any(|write| refused.is_of(write)));
        let mut open = if step.from < seat.open { seat.open } else { 0 };
        if is_replay(step) {
            // What was sent since is all of this pipeline's.
            open = open.max(step.to);
        }
        let versions = Versions::new(step.epoch, open.max(seat.tried.1))?;

        let unknown = seat.before.unknown(writes);
        if !unknown.is_empty() {
            Arc::make_mut(&mut seat.before).read(&self.http, &self.names, &unknown).await?;
        }
        let before = Arc::clone(&seat.before);
        let Plan { sets, deletes, deleting, bad, in_doubt, missed } =
            plan(&self.names, step, &row, versions, writes, (&before, &seat.sent))?;
        if missed && let Some(refused) = self.refused_now(step).await? {
            return Ok(refused);
        }
        if !bad.is_empty() {
            seat.refused.extend(plan::refused(writes, &bad));
            self.keep(step, &seat, writes);
            return Ok(Written::Rejected(bad));
        }

        let indexes = self.indexes().clone();
        let (put_back, known) = (row.put_back.clone(), seat.taken.clone());
        let bulk = Bulk {
            sink: self,
            step,
            max_bytes: self.max_request_bytes,
            indexes: &indexes,
            bound: versions.bound,
            end: versions.of(step.to)?,
            redo: seat.redo,
            taken: &known,
            put_back: &put_back,
        };
        // The deletes come when all else of the batch has been taken.
        let deletes = if in_doubt.is_empty() { deletes } else { Vec::new() };
        let (mut taken, mut has_sent) = (Vec::new(), false);
        let mut written = Written::Applied;
        for (mut lines, deleting) in [(sets, Vec::new()), (deletes, deleting)] {
            if lines.is_empty() || written != Written::Applied {
                continue;
            }
            seat.sends(step.to, &lines, writes);
            self.keep(step, &seat, writes);
            if lines.iter().any(|line| line.body.is_none()) {
                self.check_targets(&lines, &indexes).await?;
            }
            let puts_back = lines.iter().any(|line| line.write.is_none());
            if announce(&mut row, step, deleting, &seat, &lines) {
                match self.ledger.set_row(&self.http, step.key, &row, Some(place)).await? {
                    Changed::Done(now) => place = now,
                    Changed::Otherwise => return self.overtaken(step).await,
                }
            } else if (has_sent || puts_back)
                && let Some(refused) = self.refused_now(step).await?
            {
                return Ok(refused);
            }
            has_sent = true;
            written = bulk.send(&mut lines).await?;
            if written != Written::Applied || !in_doubt.is_empty() {
                seat.taken.extend(lines.iter().filter(|line| line.is_taken).filter_map(Line::document));
            }
            let last = lines.iter().filter(|line| line.last);
            taken.extend(last.map(|line| ((line.index, line.id), line.version, line.content)));
        }
        if written == Written::Applied && !in_doubt.is_empty() {
            written = Written::Rejected(Vec::new());
        }
        if let Written::Rejected(bad) = &mut written {
            // They are bad for certain where the server has refused nothing before them: the caller judges that.
            bad.extend(in_doubt);
            bad.sort_by_key(|bad| bad.index);
            seat.redo |= has_sent;
            seat.refused.extend(plan::refused(writes, bad));
            self.keep(step, &seat, writes);
            if is_replay(step) {
                let begin = versions.of(step.from)?;
                let all = before.put_back(&self.names, begin, &seat.sent, &Targets::new(), &row.put_back);
                if let Some(refused) = self.undo(&bulk, (&mut row, place), &seat, all).await? {
                    return Ok(refused);
                }
            }
        }
        if written != Written::Applied {
            return Ok(written);
        }
        for (target, version, content) in taken {
            row.written(target, version, content);
        }
        let written = self.advance(step, row, place, !writes.is_empty()).await?;
        if written == Written::Applied && !seat.sent.is_empty() {
            let seat = Seat { before: Arc::default(), sent: Sent::new(), taken: Taken::new(), ..seat };
            self.keep(step, &seat, writes);
        }
        Ok(written)
    }

    /// Puts back what a replay that was refused has sent; why that could not be done.
    async fn undo(
        &self,
        bulk: &Bulk<'_>,
        (row, place): (&mut Row, Place),
        seat: &Seat,
        mut lines: Vec<Line<'_>>,
    ) -> Result<Option<Written>, SinkError> {
        if lines.is_empty() {
            return Ok(None);
        }
        announce(row, bulk.step, Vec::new(), seat, &lines);
        // Also where nothing is new in it: that shows whether the row is still this owner's.
        if let Changed::Otherwise = self.ledger.set_row(&self.http, bulk.step.key, row, Some(place)).await? {
            return self.overtaken(bulk.step).await.map(Some);
        }
        let written = Bulk { redo: true, ..*bulk }.send(&mut lines).await?;
        Ok((written != Written::Applied).then_some(written))
    }

    /// Whether the indexes are there to delete from. `require_alias` does not hold for deletes: one with a version
    /// makes the index that it misses.
    async fn check_targets(&self, lines: &[Line<'_>], indexes: &HashMap<String, Made>) -> Result<(), SinkError> {
        let aliases: BTreeSet<&str> = lines.iter().map(|line| line.alias.as_str()).collect();
        for alias in aliases {
            let expected = indexes.get(alias).map(|made| &made.uuid);
            if expected.is_none() || indexes::uuid(&self.http, alias).await?.as_ref() != expected {
                return Err(SinkError::Stop(format!(
                    "alias {alias} is gone, or names another index than the one that the ledger knows. Put it back, or, \
                     where that index is gone too, give the sink another index_prefix and the pipeline another name, \
                     and new indexes are filled from the start"
                )));
            }
        }
        Ok(())
    }

    /// Moves the row to the step's end.
    async fn advance(&self, step: &Step<'_>, mut row: Row, place: Place, wrote: bool) -> Result<Written, SinkError> {
        row.next = step.to;
        let ahead = if wrote { (step.to - step.from).min(AHEAD) } else { 0 };
        row.until = row.until.max(step.to.saturating_add(ahead));
        row.deleting.retain(|deleting| deleting.offset >= step.to);
        row.refused.retain(|refused| refused.offset >= step.to);
        if row.digest != step.digest {
            if !row.digest.is_empty() {
                self.ledger.keep_stretch(&self.http, step.key, &row).await?;
            }
            step.digest.clone_into(&mut row.digest);
            (row.since, row.changed_at) = (step.from, now().max(row.changed_at));
        }
        step.note.clone_into(&mut row.note);
        row.epoch = step.epoch;
        match self.ledger.set_row(&self.http, step.key, &row, Some(place)).await? {
            Changed::Done(_) => Ok(Written::Applied),
            Changed::Otherwise => self.overtaken(step).await,
        }
    }

    /// Why a row is not as it was a moment ago.
    async fn overtaken(&self, step: &Step<'_>) -> Result<Written, SinkError> {
        match self.refused_now(step).await? {
            Some(refused) => Ok(refused),
            None => Err(self.ledger.contended(&step.key.partition.to_string())),
        }
    }

    pub(super) async fn refused_now(&self, step: &Step<'_>) -> Result<Option<Written>, SinkError> {
        match self.ledger.row(&self.http, step.key).await? {
            Some((row, _)) => refused(step, &row),
            None => Ok(Some(Written::LedgerMissing)),
        }
    }
}

/// The events of writes.
fn origins(writes: &[Write<'_>]) -> Vec<Origin> {
    writes.iter().flat_map(|write| &write.origins).copied().collect()
}

/// Whether a step brings what was refused before into the store.
fn is_replay(step: &Step<'_>) -> bool {
    step.from == step.to
}

/// What to answer when the row does not let the step through.
fn refused(step: &Step<'_>, row: &Row) -> Result<Option<Written>, SinkError> {
    let token = row.token()?;
    let lets = token == step.token && row.next == step.from;
    Ok((!lets).then(|| step.refused(token, row.next)))
}

/// Enters what is about to be sent; true when the row has to be written for that.
fn announce(row: &mut Row, step: &Step<'_>, deleting: Vec<Deleting>, seat: &Seat, lines: &[Line<'_>]) -> bool {
    let before = row.clone();
    row.until = row.until.max(step.to);
    let is_first = row.deleting.is_empty() && row.refused.is_empty();
    for entry in deleting {
        let same = |known: &Deleting| (&known.index, &known.id) == (&entry.index, &entry.id);
        match row.deleting.iter_mut().find(|known| same(known)) {
            Some(known) => known.offset = known.offset.max(entry.offset),
            None => row.deleting.push(entry),
        }
    }
    // A replay that is refused does not come again.
    let refused: &[Refused] = if is_replay(step) { &[] } else { &seat.refused };
    for entry in refused {
        if !row.refused.contains(entry) {
            row.refused.push(entry.clone());
        }
    }
    for line in lines {
        if let Some(version) = seat.version_behind(line) {
            row.enter_put_back((line.index, line.id), version, line.content);
        }
    }
    if is_first {
        step.digest.clone_into(&mut row.open_digest);
    } else if row.open_digest != step.digest && (&row.deleting, &row.refused) != (&before.deleting, &before.refused) {
        row.open_digest.clear();
    }
    let same = (row.until, &row.deleting, &row.refused, &row.put_back)
        == (before.until, &before.deleting, &before.refused, &before.put_back);
    !same
}
