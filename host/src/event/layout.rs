//! The names of an object's members in their order: records of one topic repeat them, so they are compared, not
//! parsed.

use std::borrow::Cow;
use std::sync::Arc;

use super::json::{Object, Scanner};
use super::malformed::Malformed;
use super::name::Name;

/// The names of an object's members, each with its quotes and colon, as they stood on the wire.
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
    fn member(&self, place: usize) -> Option<(&str, Name)> {
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

    /// The same members up to this place.
    fn up_to(&self, place: usize) -> Self {
        let members = self.members[..place].to_vec();
        Self { text: self.text[..members.last().map_or(0, |last| last.end)].to_owned(), members }
    }

    /// Adds a member: its text from the name's opening quote up to the value.
    fn push(&mut self, text: &str, name: Name) {
        let start = self.text.len();
        self.text.push_str(text);
        let name_length = name.end - name.start;
        self.members.push(Member { start, end: self.text.len(), name_length, escaped: name.escaped });
    }
}

/// Goes through the members of an object, by the layout of the last one as long as the two agree.
#[derive(Debug)]
pub(super) struct Members {
    object: Object,
    passed: usize,
    /// This object's own layout up to here, from the first difference on.
    changed: Option<Layout>,
}

impl Members {
    /// Enters the object at which the scanner stands.
    #[inline]
    pub(super) fn enter(scanner: &mut Scanner<'_>) -> Result<Self, Malformed> {
        Ok(Self { object: scanner.enter()?, passed: 0, changed: None })
    }

    /// As [`Scanner::member`].
    #[inline(always)] // its answer is large, and asked for at each member
    pub(super) fn next(&mut self, scanner: &mut Scanner<'_>, last: &Layout) -> Result<Option<Name>, Malformed> {
        if self.changed.is_none()
            && let Some((expected, name)) = last.member(self.passed)
            && let Some(start) = scanner.expected_member(&mut self.object, expected)
        {
            self.passed += 1;
            return Ok(Some(name.at(start)));
        }
        self.other(scanner, last)
    }

    /// Passes to a member that the last object did not have in this place, or to the end.
    #[inline(never)]
    fn other(&mut self, scanner: &mut Scanner<'_>, last: &Layout) -> Result<Option<Name>, Malformed> {
        let name = scanner.member(&mut self.object)?;
        if let Some(name) = name {
            let text = &scanner.text()[name.start - 1..scanner.at()];
            self.changed.get_or_insert_with(|| last.up_to(self.passed)).push(text, name);
            self.passed += 1;
        }
        Ok(name)
    }

    /// How many members have been passed, with the one at whose value the scanner stands.
    #[inline]
    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    /// Has the layout of this object, whose end has been passed, be the last one.
    #[inline]
    pub(super) fn remember(self, last: &mut Arc<Layout>) {
        if let Some(changed) = self.changed {
            *last = Arc::new(changed);
        } else if self.passed < last.len() {
            *last = Arc::new(last.up_to(self.passed));
        }
    }
}
