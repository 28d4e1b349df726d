//! Reads typed values out of the tables of a TOML file, and collects everything that is wrong on the way.
//!
//! serde's derived readers stop at the first error. Here each read notes its problem and goes on, the keys that were
//! asked for are the known ones, and whatever else a table holds is an unknown key.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::text::{FilePath, Lookup, Reference, Text};

/// A file while it is read.
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    pub(super) lookup: Lookup<'a>,
    pub(super) problems: RefCell<Vec<Problem>>,
    /// Every reference that was read.
    pub(super) references: RefCell<Vec<Reference>>,
}

/// A table of the file, and which of its keys were asked for.
pub(super) struct Block<'d> {
    document: &'d Document<'d>,
    path: String,
    span: Range<usize>,
    entries: &'d DeTable<'d>,
    known: Vec<String>,
}

/// A place in the file, to which a problem is pinned.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) field: String,
    span: Range<usize>,
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl Place {
    /// Where it is in the file.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A place within this one; `suffix` begins with `.` or `[`.
    pub(super) fn inside(&self, suffix: &str, span: Range<usize>) -> Self {
        Self { field: format!("{}{suffix}", self.field), span }
    }
}

impl Document<'_> {
    pub(super) fn problem(&self, place: &Place, cause: impl Into<String>, remedy: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            line: Some(line_of(self.text, place.span.start)),
            field: place.field.clone(),
            cause: cause.into(),
            remedy: remedy.into(),
        });
    }

    /// A string with its references replaced.
    pub(super) fn text(&self, place: &Place, value: &DeValue<'_>) -> Option<Text> {
        let Some(written) = value.as_str() else {
            self.problem(place, format!("{} is not a string", described(value)), "write a string in quotes");
            return None;
        };
        match Text::read(written, &self.lookup) {
            Ok(text) => {
                self.references.borrow_mut().extend_from_slice(text.references());
                Some(text)
            }
            Err((cause, remedy)) => {
                self.problem(place, cause, remedy);
                None
            }
        }
    }
}

impl<'d> Block<'d> {
    pub(super) fn root(document: &'d Document<'d>, table: &'d Spanned<DeTable<'d>>) -> Self {
        let entries = table.get_ref();
        Self { document, path: String::new(), span: 0..0, entries, known: Vec::new() }
    }

    fn at(document: &'d Document<'d>, place: Place, value: &'d DeValue<'d>) -> Option<Self> {
        let Some(entries) = value.as_table() else {
            document.problem(&place, format!("{} is not a table", described(value)), "write a table");
            return None;
        };
        Some(Self { document, path: place.field, span: place.span, entries, known: Vec::new() })
    }

    pub(super) fn place(&self) -> Place {
        Place { field: self.path.clone(), span: self.span.clone() }
    }

    pub(super) fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// The names of all entries, where names are the operator's to choose.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().map(|key| key.get_ref().to_string()).collect()
    }

    fn child(&self, key: &str, span: Range<usize>) -> Place {
        let key = if is_bare(key) { key.to_owned() } else { format!("{key:?}") };
        let field = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Place { field, span }
    }

    /// A value as it stands. The place is that of the key, since a table's own span may begin anywhere.
    pub(super) fn raw(&mut self, key: &str) -> Option<(Place, &'d DeValue<'d>)> {
        self.known.push(key.to_owned());
        let (name, value) = self.entries.get_key_value(key)?;
        Some((self.child(key, name.span()), value.get_ref()))
    }

    /// Says that a key has to be there, where it is not.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>, remedy: &str) -> Option<T> {
        if !self.entries.contains_key(key) {
            let place = self.child(key, self.span.clone());
            self.document.problem(&place, "it is missing", remedy);
        }
        value
    }

    pub(super) fn text(&mut self, key: &str) -> Option<Placed<Text>> {
        let (place, value) = self.raw(key)?;
        Some(Placed { value: self.document.text(&place, value)?, place })
    }

    pub(super) fn path(&mut self, key: &str) -> Option<Placed<FilePath>> {
        let Placed { value: text, place } = self.text(key)?;
        if text.is_empty() {
            self.document.problem(&place, "the path is empty", "give a path, relative to the folder of this file");
            return None;
        }
        Some(Placed { value: FilePath::new(&text, self.document.lookup.folder), place })
    }

    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<Placed<Text>>> {
        let (place, value) = self.raw(key)?;
        let Some(array) = value.as_array() else {
            let cause = format!("{} is not a list of strings", described(value));
            self.document.problem(&place, cause, "write `[\"…\", \"…\"]`");
            return None;
        };
        let mut texts = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let place = Place { field: format!("{}[{index}]", place.field), span: item.span() };
            if let Some(value) = self.document.text(&place, item.get_ref()) {
                texts.push(Placed { value, place });
            }
        }
        // A list of which nothing could be read is not an empty one.
        (array.is_empty() || !texts.is_empty()).then_some(texts)
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, key: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let (place, value) = self.raw(key)?;
        let number = value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let cause =
                    format!("{} is no whole number from {} to {}", described(value), range.start(), range.end());
                self.document.problem(&place, cause, "give a number in that range");
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        let (place, value) = self.raw(key)?;
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.document.problem(
                &place,
                format!("{} is neither true nor false", described(value)),
                "write one of the two",
            );
        }
        boolean
    }

    /// Whether a key that may be of two kinds is true or false here.
    pub(super) fn is_boolean(&self, key: &str) -> bool {
        self.entries.get_key_value(key).is_some_and(|(_, value)| value.get_ref().as_bool().is_some())
    }

    pub(super) fn block(&mut self, key: &str) -> Option<Self> {
        let (place, value) = self.raw(key)?;
        Self::at(self.document, place, value)
    }

    /// An array of tables.
    pub(super) fn blocks(&mut self, key: &str) -> Vec<Self> {
        let Some((place, value)) = self.raw(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            let cause = format!("{} is not an array of tables", described(value));
            self.document.problem(&place, cause, format!("write `[[{key}]]`, with two brackets"));
            return Vec::new();
        };
        if array.is_empty() {
            self.document.problem(&place, "the list is empty", format!("add a `[[{}]]`", place.field));
        }
        let items = array.iter().enumerate().map(|(index, item)| {
            (Place { field: format!("{}[{index}]", place.field), span: item.span() }, item.get_ref())
        });
        items.filter_map(|(place, value)| Self::at(self.document, place, value)).collect()
    }

    /// Names every key that nobody asked for. `noun` is what the keys are here: `key`, `sink kind`.
    pub(super) fn finish(mut self, noun: &str) {
        self.known.sort();
        self.known.dedup();
        for key in self.entries.keys() {
            if !self.known.iter().any(|known| known == key.get_ref()) {
                let place = self.child(key.get_ref(), key.span());
                let remedy = suggestion(key.get_ref(), &self.known);
                self.document.problem(&place, format!("unknown {noun} `{}`", key.get_ref()), remedy);
            }
        }
    }
}

/// The remedy for a name that is not among the known ones: the nearest, and all of them.
pub(super) fn suggestion(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "there is none".into();
    }
    let quoted: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    let list = quoted.join(", ");
    match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`? known: {list}"),
        None => format!("known: {list}"),
    }
}

fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k String> {
    let distance = |known: &String| strsim::damerau_levenshtein(name, known);
    known.iter().min_by_key(|known| distance(known)).filter(|known| distance(known) <= known.len().max(3) / 3)
}

/// A value in a message. Strings are left out: they may be secrets that stand in the file itself.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(value) => value.to_string(),
        DeValue::String(_) => "a string".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The line of a byte offset, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}
