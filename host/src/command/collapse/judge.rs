//! What a store's refusals mean for the events of a batch.

use std::collections::{BTreeMap, HashSet};

use super::{Origin, Tagged, Target};
use crate::command::Command;
use crate::sink::{BadWrite, Write};

/// What follows from a sink's refusal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Folded writes were refused: leave these targets unfolded in the next try.
    pub unfold: Vec<Target<'static>>,
    /// These answers are bad for certain, with the reasons: file their events, and leave all their commands out of the
    /// next try.
    pub rejected: Vec<(Origin, String)>,
}

/// Whether writes of rows were folded. A value that must be unique may pass from row to row within a batch, and clash
/// with itself where one of the steps is left out.
pub fn has_folded_rows(writes: &[Write<'_>]) -> bool {
    writes.iter().any(is_folded_row)
}

fn is_folded_row(write: &Write<'_>) -> bool {
    write.origins.len() > 1 && is_row(&write.command)
}

fn is_row(command: &Command) -> bool {
    matches!(command, Command::RowUpsert(_) | Command::RowMerge(_) | Command::RowDelete(_))
}

/// A write of an answer that was refused.
struct Failure<'a> {
    target: Option<Target<'a>>,
    clash: bool,
    /// It clashed with other rows, or a trigger may have looked at them.
    by_others: bool,
    /// It may have missed a row that a delete of another row has taken along.
    merges_row: bool,
    reason: &'a str,
}

/// Judges refused writes. An answer is bad for certain when nothing that may yet be left out was there before it at the
/// target where it failed, nor at any row, where it clashed with other rows or a trigger may have looked at them, nor a
/// delete of any row, where it merges into one; the others are tried again without the certain ones. Each
/// round unfolds or rejects at least one, so trying again comes to an end.
pub fn judge<'a>(commands: impl IntoIterator<Item = &'a Tagged>, writes: &[Write<'_>], bad: &[BadWrite]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut failed: BTreeMap<Origin, Vec<Failure<'_>>> = BTreeMap::new();
    let mut in_doubt: HashSet<Origin> = HashSet::new();
    let unfold_rows = bad.iter().any(|bad| bad.clash) && has_folded_rows(writes);
    if unfold_rows {
        let folded = writes.iter().filter(|write| is_folded_row(write));
        verdict.unfold.extend(folded.filter_map(|write| write.command.target()).map(Target::into_owned));
    }
    for BadWrite { index, clash, by_trigger, reason } in bad {
        let Some(write) = writes.get(*index) else { continue };
        match write.origins.as_slice() {
            [origin] if *clash && unfold_rows => {
                in_doubt.insert(*origin);
            }
            [origin] => failed.entry(*origin).or_default().push(Failure {
                target: write.command.target(),
                clash: *clash,
                by_others: *clash || *by_trigger,
                merges_row: matches!(write.command.as_ref(), Command::RowMerge(_)),
                reason,
            }),
            folded => {
                in_doubt.extend(folded);
                if !(unfold_rows && is_row(&write.command)) {
                    verdict.unfold.extend(write.command.target().map(Target::into_owned));
                }
            }
        }
    }
    let mut answers: BTreeMap<Origin, Vec<&'a Command>> = BTreeMap::new();
    for tagged in commands {
        answers.entry(tagged.origin()).or_default().push(&tagged.command);
    }
    // An answer that is left out changes what later ones find at all its targets, and whether those fail in turn.
    let mut uncertain: HashSet<Target<'a>> = HashSet::new();
    // And where one of its rows was written meanwhile, whether later rows clash, and what triggers find.
    let mut rows_uncertain = false;
    // And where it has deleted a row, whether others are still there.
    let mut deletes_uncertain = false;
    for (origin, commands) in answers {
        let failures = failed.get(&origin).map(Vec::as_slice).unwrap_or_default();
        let certain = failures.iter().find(|failure| {
            let at_target = failure.target.as_ref().is_some_and(|target| uncertain.contains(target));
            let in_doubt =
                at_target || (failure.by_others && rows_uncertain) || (failure.merges_row && deletes_uncertain);
            !in_doubt
        });
        if let Some(failure) = certain {
            verdict.rejected.push((origin, failure.reason.to_owned()));
        }
        // What came later failed without it too. A clash may be given another try, and then not fail.
        let left_nothing = matches!(commands.as_slice(), [command] if is_row(command));
        if left_nothing && certain.is_some_and(|failure| !failure.clash) {
            continue;
        }
        let doubtful = !failures.is_empty() || in_doubt.contains(&origin);
        let mut targets = commands.iter().filter_map(|command| command.target());
        if doubtful || targets.any(|target| uncertain.contains(&target)) {
            let left_no_trace = certain.is_some() && commands.len() == 1;
            rows_uncertain |= !left_no_trace && commands.iter().any(|command| is_row(command));
            deletes_uncertain |= !left_no_trace && commands.iter().any(|one| matches!(one, Command::RowDelete(_)));
            uncertain.extend(commands.iter().filter_map(|command| command.target()));
        }
    }
    verdict
}
