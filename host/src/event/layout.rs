//! The names of a row's members in their order: rows of one table repeat them, so they are compared, not parsed.

use std::borrow::Cow;

use super::json::Name;

/// The names of a row's members, each with its quotes and colon, as they stood on the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    text: String,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    start: usize,
    end: usize,
    name_length: usize,
    escaped: bool,
}

impl Layout {
    /// The text of the member at this place up to its value, and its name as a part of that text.
    #[inline]
    pub(super) fn member(&self, place: usize) -> Option<(&str, Name)> {
        let Member { start, end, name_length, escaped } = *self.members.get(place)?;
        Some((&self.text[start..end], Name { start: 1, end: 1 + name_length, escaped }))
    }

    /// The names, without their escapes.
    pub(super) fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        (0..self.len()).filter_map(|place| self.member(place)).map(|(text, name)| name.of(text))
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.members.len() * size_of::<Member>()
    }

    /// The same members up to this place.
    pub(super) fn up_to(&self, place: usize) -> Self {
        let members = self.members[..place].to_vec();
        Self { text: self.text[..members.last().map_or(0, |last| last.end)].to_owned(), members }
    }

    /// Adds a member: its text from the name's opening quote up to the value.
    pub(super) fn push(&mut self, text: &str, name: Name) {
        let start = self.text.len();
        self.text.push_str(text);
        let name_length = name.end - name.start;
        self.members.push(Member { start, end: self.text.len(), name_length, escaped: name.escaped });
    }
}
