//! What a sink's ledger notes of the answers that it has refused: the sinks after it must not take them either, also
//! when they take a part of the stream again that it has long behind it.

use serde::{Deserialize, Serialize};

use crate::command::collapse::Origin;

/// The answers that are remembered, the newest: a note goes with each write. A store that comes back from so far that
/// more than these were refused since takes the older ones.
const REMEMBERED: usize = 256;

/// The refused answers of one module, in the note's JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OfModule {
    transform: String,
    digest: String,
    offsets: Vec<u64>,
}

/// A note with these answers added; `transforms` are names and digests.
pub(super) fn add(note: &str, left_out: &[Origin], transforms: &[(String, String)]) -> String {
    if left_out.is_empty() {
        return note.to_owned();
    }
    let mut all = read(note);
    for origin in left_out {
        let Some((transform, digest)) = transforms.get(origin.transform) else { continue };
        let offset = origin.offset;
        match all.iter_mut().find(|of| of.transform == *transform && of.digest == *digest) {
            Some(of) => of.offsets.push(offset),
            None => all.push(OfModule { transform: transform.clone(), digest: digest.clone(), offsets: vec![offset] }),
        }
    }
    let mut offsets: Vec<u64> = all.iter().flat_map(|of| &of.offsets).copied().collect();
    offsets.sort_unstable();
    let oldest = offsets.len().checked_sub(REMEMBERED).and_then(|at| offsets.get(at)).copied().unwrap_or_default();
    for of in &mut all {
        of.offsets.retain(|offset| *offset >= oldest);
        of.offsets.sort_unstable();
        of.offsets.dedup();
    }
    all.retain(|of| !of.offsets.is_empty());
    serde_json::to_string(&all).unwrap_or_default()
}

/// The answers of these transforms in a note. What another module answered is another matter.
pub(super) fn of(note: &str, transforms: &[(String, String)]) -> Vec<Origin> {
    let mut origins = Vec::new();
    for of in read(note) {
        let place = transforms.iter().position(|(name, digest)| *name == of.transform && *digest == of.digest);
        let Some(transform) = place else { continue };
        origins.extend(of.offsets.iter().map(|offset| Origin { offset: *offset, transform }));
    }
    origins
}

fn read(note: &str) -> Vec<OfModule> {
    if note.is_empty() { Vec::new() } else { serde_json::from_str(note).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transforms(digest: &str) -> Vec<(String, String)> {
        vec![("first".into(), "d".into()), ("second".into(), digest.into())]
    }

    fn origin(offset: u64, transform: usize) -> Origin {
        Origin { offset, transform }
    }

    #[test]
    fn a_note_is_read_back_for_the_same_modules_alone() {
        let transforms = transforms("e");
        let note = add("", &[origin(7, 1), origin(3, 0)], &transforms);
        let note = add(&note, &[origin(9, 1), origin(7, 1)], &transforms);
        assert_eq!(of(&note, &transforms), [origin(7, 1), origin(9, 1), origin(3, 0)]);
        assert_eq!(of(&note, &self::transforms("f")), [origin(3, 0)]);
        assert_eq!(add("", &[], &transforms), "");
        assert_eq!(of("written by hand", &transforms), []);
    }

    #[test]
    fn a_note_holds_the_newest_and_does_not_grow() {
        let transforms = transforms("e");
        let mut note = String::new();
        for offset in 0..2000 {
            note = add(&note, &[origin(offset, usize::from(offset % 2 == 0))], &transforms);
        }
        let mut offsets: Vec<u64> = of(&note, &transforms).iter().map(|origin| origin.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (1744..2000).collect::<Vec<_>>());
        assert!(note.len() < 4096, "{}", note.len());
    }
}
