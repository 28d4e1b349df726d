//! What a batch becomes: lines of bulk requests, merges computed here, and the commands that are bad before anything
//! is sent.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::before::{Before, Sent, Was};
use super::bulk::Line;
use super::indexes::Names;
use super::ledger::{Deleting, Refused, Row, content_of};
use crate::command::Command;
use crate::command::collapse::Origin;
use crate::command::json::merge_into;
use crate::sink::{BadWrite, SinkError, Step, Write};

/// The bytes of the longest id that the server takes.
pub(super) const ID_BYTES: usize = 512;
/// The largest document: where `http.max_content_length` is as it comes, the server hangs up on a larger one.
const DOCUMENT_BYTES: usize = 95 << 20;

/// An index and an id.
pub(super) type Target<'a> = (&'a str, &'a str);

/// A batch, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Documents that are set: all that the server may refuse.
    pub(super) sets: Vec<Line<'a>>,
    /// The deletes of ids that no later command of the batch sets again.
    pub(super) deletes: Vec<Line<'a>>,
    /// What is deleted, for the ledger.
    pub(super) deleting: Vec<Deleting>,
    /// Commands that are bad as they stand.
    pub(super) bad: Vec<BadWrite>,
    /// Merges that are bad because of earlier events of the batch, unless the server refuses one of those. Nothing of their
    /// answers is in the lines.
    pub(super) in_doubt: Vec<BadWrite>,
    /// Whether a merge is bad since its document is missing.
    pub(super) missed: bool,
}

/// The versions of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    epoch: u64,
    /// A document of this version or above was sent by nobody who may have.
    pub(super) bound: u64,
}

impl Versions {
    /// For offsets below `bound` of this epoch.
    pub(super) fn new(epoch: u16, bound: u64) -> Result<Self, SinkError> {
        let versions = Self { epoch: u64::from(epoch), bound: 0 };
        if epoch > 0x7fff {
            return Err(SinkError::Stop(format!(
                "epoch {epoch} is beyond what a document's version can hold, 32767: give the sink a fresh target"
            )));
        }
        Ok(Self { bound: versions.of(bound)?, ..versions })
    }

    pub(super) fn of(self, offset: u64) -> Result<u64, SinkError> {
        if offset >> 48 != 0 {
            return Err(SinkError::Stop(format!("offset {offset} is beyond what a document's version can hold, 2^48")));
        }
        Ok(self.epoch << 48 | offset)
    }

    fn offset(self, version: u64) -> u64 {
        version & ((1 << 48) - 1)
    }
}

/// A document as the lines before will leave it, and under which version.
struct Planned<'a> {
    version: u64,
    content: u64,
    body: Option<Cow<'a, str>>,
}

/// The targets of a batch, with the first answer of it that writes each.
pub(super) type Targets<'a> = HashMap<Target<'a>, Option<Origin>>;

/// Plans a batch: what is to be written, and what earlier tries of it have sent and must be put back.
pub(super) fn plan<'a>(
    names: &Names,
    step: &Step<'_>,
    row: &Row,
    versions: Versions,
    writes: &'a [Write<'a>],
    documents: (&'a Before, &Sent),
) -> Result<Plan<'a>, SinkError> {
    let mut left_out: HashSet<Origin> = HashSet::new();
    let (mut in_doubt, mut missed) = (Vec::new(), false);
    loop {
        let mut plan = plan_without(&left_out, names, step, row, versions, writes, documents)?;
        missed |= plan.missed;
        if plan.bad.is_empty() && !plan.in_doubt.is_empty() {
            let doubted = plan.in_doubt.iter().filter_map(|bad| writes.get(bad.index));
            left_out.extend(doubted.flat_map(|write| &write.origins));
            in_doubt.append(&mut plan.in_doubt);
            continue;
        }
        return Ok(Plan { in_doubt, missed, ..plan });
    }
}

/// Plans what is left of a batch without these answers.
fn plan_without<'a>(
    left_out: &HashSet<Origin>,
    names: &Names,
    step: &Step<'_>,
    row: &Row,
    versions: Versions,
    writes: &'a [Write<'a>],
    (before, sent): (&'a Before, &Sent),
) -> Result<Plan<'a>, SinkError> {
    let merges = writes.iter().filter(|write| matches!(*write.command, Command::DocumentMerge { .. }));
    let merged: HashSet<Target<'a>> = merges.filter_map(|write| target(&write.command)).collect();
    let mut planned: HashMap<Target<'a>, Planned<'a>> = HashMap::new();
    let mut targets: Targets<'a> = HashMap::new();
    let mut last: HashMap<Target<'a>, usize> = HashMap::new();
    let pending: HashMap<Target<'_>, u64> =
        row.deleting.iter().filter(|d| !is_void(d, step, writes)).map(|d| ((&*d.index, &*d.id), d.offset)).collect();
    let same_modules = row.open_digest == step.digest;
    let is_replay = step.from == step.to;
    let mut plan = Plan::default();
    for (place, write) in writes.iter().enumerate() {
        let Some((index, id)) = target(&write.command) else {
            return Err(SinkError::Stop(format!(
                "a command {} came to a store of documents; please report this",
                write.command.kind()
            )));
        };
        if let Some(problem) = names.problem(index) {
            plan.bad.push(BadWrite { index: place, clash: false, by_trigger: false, reason: problem });
            continue;
        }
        let first = *targets.entry((index, id)).or_insert_with(|| write.origins.first().copied());
        if write.origins.iter().any(|origin| left_out.contains(origin)) {
            continue;
        }
        let bad = |reason: String| BadWrite { index: place, clash: false, by_trigger: false, reason };
        if id.is_empty() || id.len() > ID_BYTES {
            plan.bad.push(bad(format!(
                "the id of a document of {index:?} has {} bytes: an id has 1 to {ID_BYTES}",
                id.len()
            )));
            continue;
        }
        let offset = write.origins.last().map_or(step.to.saturating_sub(1), |origin| origin.offset);
        let mut version = versions.of(offset)?;
        let mut content = version;
        // Also where the document was deleted after it, which would else make it one that is done.
        if same_modules && row.refused.iter().any(|refused| refused.is_of(write)) {
            plan.bad.push(bad(format!(
                "document {id:?} of {index:?} is refused: so it was before, when this batch was cut short"
            )));
            continue;
        }
        // An owner before, or a try before, has sent a later delete of this document, or was about to. It comes again.
        let deleted = pending.get(&(index, id)).copied();
        let is_delete = matches!(*write.command, Command::DocumentDelete { .. });
        let skipped = same_modules && !is_delete && deleted.is_some_and(|later| later > offset);
        // Whether the store may find this otherwise, since it refuses what an event before it does to the document.
        let is_merge = matches!(*write.command, Command::DocumentMerge { .. });
        let is_behind = is_merge && write.origins.first().is_some_and(|mine| first.as_ref() != Some(mine));
        let body: Option<Cow<'a, str>> = match &*write.command {
            Command::DocumentIndex { body, .. } => Some(one_line(body.get())),
            Command::DocumentMerge { fields, .. } => {
                let stored = match (planned.get(&(index, id)), before.get((index, id))) {
                    (Some(Planned { version: there, content: held, body: Some(body) }), _) => {
                        version = version.max(*there);
                        content = content.max(*held);
                        Ok(&**body)
                    }
                    (None, Some(Was::Stored { version: there, body })) => {
                        if *there > version && *there >= versions.bound {
                            return Err(foreign(index, id, version, Some(*there)));
                        }
                        let held = content_of(&row.put_back, (index, id), *there);
                        // What is there came from this event and later ones. Of a replay it did not: the event was
                        // refused when it came, and its fields are nobody else's.
                        if held > version && !is_replay {
                            continue;
                        }
                        version = version.max(*there);
                        content = content.max(held);
                        Ok(body.as_str())
                    }
                    (None, Some(Was::Hidden)) => {
                        return Err(SinkError::Stop(format!(
                            "index {} does not keep what was indexed (`_source` is disabled), so nothing can be \
                             merged into its documents: declare it with `_source`",
                            names.alias(index)
                        )));
                    }
                    // It was merged into before it was deleted, by a later event or by this one.
                    (None, _) if deleted.is_some_and(|later| later >= offset) => continue,
                    _ => {
                        plan.missed = true;
                        Err("it does not exist".to_owned())
                    }
                };
                match stored.and_then(|stored| merge_into(stored.as_bytes(), fields)) {
                    Ok(merged) => Some(Cow::Owned(merged)),
                    Err(problem) => {
                        let found = if is_behind { &mut plan.in_doubt } else { &mut plan.bad };
                        found.push(bad(format!("document {id:?} of {index:?} cannot be merged into: {problem}")));
                        continue;
                    }
                }
            }
            _ => None,
        };
        if body.as_ref().is_some_and(|body| body.len() > DOCUMENT_BYTES) {
            let found = if is_behind { &mut plan.in_doubt } else { &mut plan.bad };
            found.push(bad(format!("document {id:?} of {index:?} is larger than {DOCUMENT_BYTES} bytes")));
            continue;
        }
        // Only what a merge may ask for is kept in mind.
        if merged.contains(&(index, id)) {
            planned.insert((index, id), Planned { version, content, body: body.clone() });
        }
        if skipped {
            continue;
        }
        last.insert((index, id), place);
        let is_set = body.is_some();
        let (write, alias) = (Some(place), names.alias(index));
        let line = Line { write, index, alias, id, version, content, body, last: false, is_taken: false };
        if is_set { plan.sets.push(line) } else { plan.deletes.push(line) }
    }
    for line in plan.sets.iter_mut().chain(&mut plan.deletes) {
        let target = line.write.and_then(|place| writes.get(place)).and_then(|write| target(&write.command));
        line.last = target.is_some_and(|target| last.get(&target).copied() == line.write);
    }
    // A set takes the place of the whole document.
    plan.deletes.retain(|line| line.last);
    let deleting = |line: &Line<'_>| Deleting {
        index: line.index.to_owned(),
        id: line.id.to_owned(),
        offset: versions.offset(line.version),
    };
    plan.deleting = plan.deletes.iter().map(deleting).collect();
    for line in before.put_back(names, versions.of(step.from)?, sent, &targets, &row.put_back) {
        if line.body.is_some() { plan.sets.push(line) } else { plan.deletes.push(line) }
    }
    Ok(plan)
}

/// Whether a delete that was announced is none of the batch's any more: its event is in the batch, and was rejected.
fn is_void(deleting: &Deleting, step: &Step<'_>, writes: &[Write<'_>]) -> bool {
    let comes = |write: &Write<'_>| {
        target(&write.command) == Some((&*deleting.index, &*deleting.id))
            && write.origins.iter().any(|origin| origin.offset == deleting.offset)
    };
    (step.from..step.to).contains(&deleting.offset) && !writes.iter().any(comes)
}

/// A version that nobody who may write the document can have given it.
pub(super) fn foreign(index: &str, id: &str, version: u64, there: Option<u64>) -> SinkError {
    let there = there.map_or_else(|| "a higher version".to_owned(), |there| format!("version {there}"));
    SinkError::Stop(format!(
        "document {id:?} of {index} has {there}, above {version}, and this pipeline has not sent it: the index was \
         filled by something else, its ledger was lost, or two partitions write one id. Let one partition write an \
         id, or give the sink another index_prefix and the pipeline another name, and the new index is filled from \
         the start"
    ))
}

/// A line break in valid JSON stands between tokens.
fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

pub(super) fn target(command: &Command) -> Option<Target<'_>> {
    match command {
        Command::DocumentIndex { index, id, .. }
        | Command::DocumentMerge { index, id, .. }
        | Command::DocumentDelete { index, id } => Some((index, id)),
        _ => None,
    }
}

/// The sets and merges among commands that are bad.
pub(super) fn refused(writes: &[Write<'_>], bad: &[BadWrite]) -> Vec<Refused> {
    let sets = bad.iter().filter_map(|bad| writes.get(bad.index)).filter_map(|write| match &*write.command {
        Command::DocumentMerge { index, id, .. } | Command::DocumentIndex { index, id, .. } => {
            Some((index, id, &write.origins))
        }
        _ => None,
    });
    let each = sets.flat_map(|(index, id, origins)| {
        // Of a folded command it is not known yet which event was at fault; it comes back unfolded.
        let alone = if origins.len() == 1 { origins.as_slice() } else { &[] };
        alone.iter().map(|origin| Refused {
            index: index.clone(),
            id: id.clone(),
            offset: origin.offset,
            transform: origin.transform,
        })
    });
    each.collect()
}
