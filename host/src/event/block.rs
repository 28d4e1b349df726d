//! Sixteen bytes at once: where a string's plain text ends, and where a run of digits ends.

use wide::u8x16;

/// How many bytes one [`Ends`] stands for.
pub(super) const LENGTH: usize = 16;

/// The places of a block that end a run: bit 0 stands for its first byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends(u32);

impl Ends {
    /// The quotes, backslashes and control characters from `at` on. The end of the text is one too; `at` may not lie
    /// behind it.
    #[inline]
    pub(super) fn of_string(bytes: &[u8], at: usize) -> Self {
        Self::find(bytes, at, |block| {
            let marks = block.simd_eq(u8x16::splat(b'"')) | block.simd_eq(u8x16::splat(b'\\'));
            marks | block.simd_le(u8x16::splat(0x1f))
        })
    }

    /// The bytes from `at` on that are no decimal digits. The end of the text is one too; `at` may not lie behind it.
    #[inline]
    pub(super) fn of_digits(bytes: &[u8], at: usize) -> Self {
        Self::find(bytes, at, |block| (block - u8x16::splat(b'0')).simd_ge(u8x16::splat(10)))
    }

    /// The first place, counted from the start of the block.
    #[inline]
    pub(super) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    /// The places from this one on.
    #[inline]
    pub(super) fn from(self, place: usize) -> Self {
        Self(if place < LENGTH { self.0 & (u32::MAX << place) } else { 0 })
    }

    #[inline]
    fn find(bytes: &[u8], at: usize, ends: impl Fn(u8x16) -> u8x16) -> Self {
        let of = |block: &[u8; LENGTH]| ends(u8x16::new(*block)).to_bitmask();
        if let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            return Self(of(block));
        }
        // The text's last block, moved to where `at` stands in it.
        if let Some(block) = bytes.last_chunk() {
            let left = bytes.len() - at;
            return Self(of(block) >> (LENGTH - left) | 1 << left);
        }
        // A text shorter than a block, filled with zero bytes: they are ends of both kinds.
        let mut block = [0; LENGTH];
        block.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
        Self(of(&block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_told_at_each_place() {
        for place in 0..LENGTH {
            for byte in 0..=u8::MAX {
                let mut block = [b'7'; LENGTH];
                block[place] = byte;
                let ends_string = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(Ends::of_string(&block, 0).first(), ends_string.then_some(place));
                assert_eq!(Ends::of_digits(&block, 0).first(), (!byte.is_ascii_digit()).then_some(place));
            }
        }
    }

    #[test]
    fn the_end_of_the_text_is_an_end() {
        for length in 0..40 {
            let text = vec![b'7'; length];
            for at in 0..=length {
                let left = (length - at < LENGTH).then_some(length - at);
                assert_eq!(Ends::of_string(&text, at).first(), left, "{at} of {length}");
                assert_eq!(Ends::of_digits(&text, at).first(), left, "{at} of {length}");
            }
        }
    }

    #[test]
    fn places_before_one_are_left_out() {
        let ends = Ends::of_digits(b"1,23,4567890123,", 0);
        let places: Vec<_> = (0..=LENGTH).map(|place| ends.from(place).first()).collect();
        let expected = [vec![Some(1); 2], vec![Some(4); 3], vec![Some(15); 11], vec![None]].concat();
        assert_eq!(places, expected);
    }
}
