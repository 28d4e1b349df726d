//! How the demo tells of one system.

use super::outcome::{Counts, Outcome};
use crate::console::say;
use crate::verify::Verdict;

/// Prints what went through the system's pipeline, what its store holds, and whether that equals the source.
pub(super) fn system(verdict: &Verdict, outcome: &Outcome) {
    say(format_args!("\n{}", verdict.system));
    if let Some(pipeline) = outcome.pipeline(verdict.system) {
        say(format_args!("  events        {}", counts(&pipeline.events)));
        say(format_args!("  commands      {}", counts(&pipeline.commands)));
    }
    let dead_letters: Vec<_> = outcome.dead_letters(verdict.system).collect();
    if dead_letters.is_empty() {
        say("  dead letters  none");
    }
    for letter in dead_letters {
        say(format_args!("  dead letter   {}: {}", letter.place, letter.reason));
    }
    say(format_args!("  store         {}", verdict.holds.join(", ")));
    for key in &verdict.absent {
        say(format_args!("  absent        {key}: no event brought all of its columns"));
    }
    if verdict.differences.is_empty() {
        say(format_args!("  ✔ equals the source: {} values compared", verdict.compared));
        return;
    }
    say(format_args!("  ✘ differs from the source in {} places:", verdict.differences.len()));
    for difference in &verdict.differences {
        say(format_args!("    {difference}"));
    }
}

/// `34 create, 10 read`, the greatest first.
fn counts(counts: &Counts) -> String {
    let mut counts: Vec<_> = counts.iter().filter(|(_, number)| **number > 0).collect();
    counts.sort_by(|(_, one), (_, two)| two.cmp(one));
    let counts: Vec<String> = counts.into_iter().map(|(name, number)| format!("{number} {name}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}
