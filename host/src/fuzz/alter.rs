//! Alterations of an input: bytes, runs of bytes, words, and parts of another input.

/// Random numbers that a seed repeats (SplitMix64).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one; 0 below 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A stretch of a text of this length: mostly a short one.
    fn stretch(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length - start } else { (length - start).min(16) };
        start..start + self.below(most + 1)
    }
}

/// The input with one to eight alterations.
pub(super) fn alter(input: &[u8], other: &[u8], words: &[&str], most_bytes: usize, chance: &mut Chance) -> Vec<u8> {
    let mut altered = input.to_vec();
    for _ in 0..1 + chance.below(2) * chance.below(8) {
        once(&mut altered, other, words, chance);
    }
    altered.truncate(most_bytes);
    altered
}

fn once(altered: &mut Vec<u8>, other: &[u8], words: &[&str], chance: &mut Chance) {
    let at = chance.below(altered.len());
    let own = chance.stretch(altered.len());
    match chance.below(10) {
        0 => {
            if let Some(byte) = altered.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = altered.get_mut(at) {
                *byte = [0, 0x7f, 0x80, 0xff, b'0', b'"', b'\n', chance.byte()][chance.below(8)];
            }
        }
        2 => {
            let added: Vec<u8> = (0..=chance.below(4)).map(|_| chance.byte()).collect();
            altered.splice(at..at, added);
        }
        3 | 4 => drop(altered.drain(own)),
        5 => {
            // A stretch again, at times very often: nesting, and lengths at which something turns over.
            let times = if chance.below(8) == 0 { chance.below(300) } else { 1 };
            let again = altered[own.clone()].repeat(times);
            altered.splice(own.end..own.end, again);
        }
        6 => {
            let copied = altered[own].to_vec();
            altered.splice(at..at, copied);
        }
        7 | 8 if !words.is_empty() => {
            let replaced = if chance.below(2) == 0 { own } else { at..at };
            altered.splice(replaced, words[chance.below(words.len())].bytes());
        }
        _ => {
            let theirs = other[chance.stretch(other.len())].to_vec();
            altered.splice(own, theirs);
        }
    }
}
