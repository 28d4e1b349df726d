//! What a sink's ledger notes of the answers that it has refused: the sinks after it must not take them either, also
//! when they take a part of the stream again that it has long behind it.

use serde::{Deserialize, Serialize};

use crate::command::collapse::Origin;

/// The answers that are remembered, the newest: they go with each write. A store that comes back from so far that
/// more than these were refused since takes the older ones.
const REMEMBERED: usize = 256;

/// The refused answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct LeftOut(Vec<OfModule>);

/// Those of one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfModule {
    transform: String,
    digest: String,
    offsets: Vec<u64>,
}

impl LeftOut {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds these answers; `transforms` are names and digests.
    pub(super) fn add(&mut self, left_out: &[Origin], transforms: &[(String, String)]) {
        for origin in left_out {
            let Some((transform, digest)) = transforms.get(origin.transform) else { continue };
            let offset = origin.offset;
            match self.0.iter_mut().find(|of| of.transform == *transform && of.digest == *digest) {
                Some(of) => of.offsets.push(offset),
                None => {
                    let (transform, digest) = (transform.clone(), digest.clone());
                    self.0.push(OfModule { transform, digest, offsets: vec![offset] });
                }
            }
        }
        let mut offsets: Vec<u64> = self.0.iter().flat_map(|of| &of.offsets).copied().collect();
        offsets.sort_unstable();
        let oldest = offsets.len().checked_sub(REMEMBERED).and_then(|at| offsets.get(at)).copied().unwrap_or_default();
        for of in &mut self.0 {
            of.offsets.retain(|offset| *offset >= oldest);
            of.offsets.sort_unstable();
            of.offsets.dedup();
        }
        self.0.retain(|of| !of.offsets.is_empty());
    }

    /// Takes out the answers of a transform to an event, of whichever module: the sink has one of them by now.
    pub(super) fn remove(&mut self, transform: &str, offset: u64) {
        for of in self.0.iter_mut().filter(|of| of.transform == transform) {
            of.offsets.retain(|left_out| *left_out != offset);
        }
        self.0.retain(|of| !of.offsets.is_empty());
    }

    /// The answers of these transforms. What another module answered is another matter.
    pub(super) fn of(&self, transforms: &[(String, String)]) -> Vec<Origin> {
        let mut origins = Vec::new();
        for of in &self.0 {
            let place = transforms.iter().position(|(name, digest)| *name == of.transform && *digest == of.digest);
            let Some(transform) = place else { continue };
            origins.extend(of.offsets.iter().map(|offset| Origin { offset: *offset, transform }));
        }
        origins
    }
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
    fn they_hold_for_the_same_modules_alone() {
        let transforms = transforms("e");
        let mut left_out = LeftOut::default();
        left_out.add(&[origin(7, 1), origin(3, 0)], &transforms);
        left_out.add(&[origin(9, 1), origin(7, 1)], &transforms);
        assert_eq!(left_out.of(&transforms), [origin(7, 1), origin(9, 1), origin(3, 0)]);
        assert_eq!(left_out.of(&self::transforms("f")), [origin(3, 0)]);
    }

    #[test]
    fn removed_answer_is_left_out_no_more_whichever_module_gave_it() {
        let mut left_out = LeftOut::default();
        left_out.add(&[origin(7, 1), origin(9, 1), origin(7, 0)], &transforms("e"));
        left_out.add(&[origin(7, 1)], &transforms("f"));
        left_out.remove("second", 7);
        assert_eq!(left_out.of(&transforms("e")), [origin(9, 1), origin(7, 0)]);
        assert_eq!(left_out.of(&transforms("f")), [origin(7, 0)]);
    }

    #[test]
    fn the_newest_are_kept() {
        let transforms = transforms("e");
        let mut left_out = LeftOut::default();
        for offset in 0..2000 {
            left_out.add(&[origin(offset, usize::from(offset % 2 == 0))], &transforms);
        }
        let mut offsets: Vec<u64> = left_out.of(&transforms).iter().map(|origin| origin.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (1744..2000).collect::<Vec<_>>());
    }
}
