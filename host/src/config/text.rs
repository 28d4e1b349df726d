//! Strings of the configuration, which may hold references to the environment and to files: `${env:NAME}`,
//! `${file:PATH}`. What a reference stands for may be a secret, so it is never shown: neither by `Debug` nor in an
//! error.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A secret file larger than this is a mistake, or a device that never ends.
const MAX_REFERENCED_BYTES: u64 = 1 << 20;

/// A string of the configuration with its references replaced. It dereferences to the value; `Debug` and
/// [`Text::shown`] give it as it was written, references and all.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text {
    value: String,
    shown: String,
    references: Vec<Reference>,
}

/// A reference and what it stands for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) written: String,
    pub(super) value: String,
}

/// A path of the configuration, relative ones resolved against the folder of the configuration file. It dereferences
/// to the path; `Debug` and [`FilePath::shown`] never show what came from a reference.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath {
    path: PathBuf,
    shown: String,
}

/// Where references are looked up.
pub(super) struct Lookup<'a> {
    /// The folder that `${file:PATH}` is relative to.
    pub(super) folder: &'a Path,
    /// The environment.
    pub(super) environment: &'a dyn Fn(&str) -> Result<String, std::env::VarError>,
}

/// Why a string cannot be read: the cause and the remedy.
pub(super) type Unreadable = (String, String);

impl Text {
    /// A text without references.
    pub fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { shown: value.clone(), value, references: Vec::new() }
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The text as it was written, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A message in which whatever a reference of this text stands for is replaced by the reference. For messages of
    /// those who were given the value, such as a transform that complains about its settings.
    pub fn redact(&self, message: &str) -> String {
        redact(&self.references, message)
    }

    /// The references of this text.
    pub(super) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The text behind a beginning that it is known to have, outside of its references.
    pub(super) fn without_prefix(&self, prefix: &str) -> Self {
        let cut = |text: &str| text.strip_prefix(prefix).unwrap_or(text).to_owned();
        Self { value: cut(&self.value), shown: cut(&self.shown), references: self.references.clone() }
    }

    /// Appends a part that stands for itself.
    pub(super) fn push(&mut self, part: &str) {
        self.value.push_str(part);
        self.shown.push_str(part);
    }

    /// Appends a text, each form of it mapped by `map`.
    pub(super) fn append(&mut self, text: &Self, map: impl Fn(&str) -> String) {
        self.value.push_str(&map(&text.value));
        self.shown.push_str(&map(&text.shown));
        self.references.extend(text.references.iter().cloned());
    }

    /// Reads a string as it is written in the file.
    pub(super) fn read(written: &str, lookup: &Lookup<'_>) -> Result<Self, Unreadable> {
        let mut text = Self { shown: written.to_owned(), ..Self::default() };
        let mut rest = written;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                text.value.push_str(&rest[..at - 1]);
                text.value.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            text.value.push_str(&rest[..at]);
            let Some(length) = rest[at..].find('}') else {
                return Err((
                    format!("`{}` begins a reference that has no end", &rest[at..]),
                    "close it with `}`, or write `$${` for the two characters".into(),
                ));
            };
            let reference = &rest[at..=at + length];
            let value = lookup.find(reference)?;
            text.value.push_str(&value);
            text.references.push(Reference { written: reference.to_owned(), value });
            rest = &rest[at + length + 1..];
        }
        text.value.push_str(rest);
        Ok(text)
    }
}

/// A message in which each value is replaced by its reference: as it is, and as JSON or Rust would quote it.
pub(super) fn redact(references: &[Reference], message: &str) -> String {
    let inner = |quoted: String| quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned();
    let mut forms: Vec<(String, &str)> = references
        .iter()
        .filter(|reference| !reference.value.is_empty())
        .flat_map(|Reference { value, written }| {
            let quoted = [serde_json::Value::from(value.as_str()).to_string(), format!("{value:?}")];
            [value.clone()].into_iter().chain(quoted.map(inner)).map(|form| (form, written.as_str()))
        })
        .collect();
    // The longest first: one value may be a part of another.
    forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
    forms.iter().fold(message.to_owned(), |text, (form, written)| text.replace(form, written))
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Lookup<'_> {
    /// What a reference, braces included, stands for.
    fn find(&self, reference: &str) -> Result<String, Unreadable> {
        let inner = &reference[2..reference.len() - 1];
        match inner.split_once(':') {
            Some(("env", name)) if !name.is_empty() => (self.environment)(name).map_err(|error| match error {
                std::env::VarError::NotPresent => (
                    format!("`{reference}` names an environment variable that is not set"),
                    format!("set `{name}` where tidegate is started"),
                ),
                std::env::VarError::NotUnicode(_) => (
                    format!("`{reference}` names an environment variable that is not UTF-8"),
                    format!("set `{name}` to UTF-8 text"),
                ),
            }),
            Some(("file", path)) if !path.is_empty() => self.read_file(path).map_err(|cause| {
                (
                    format!("`{reference}` names a file that cannot be used: {cause}"),
                    format!(
                        "make `{path}` a readable text file; a relative path starts from the configuration's folder"
                    ),
                )
            }),
            _ => Err((
                format!("`{reference}` is no reference"),
                "write `${env:NAME}` or `${file:PATH}`, or `$${` for the two characters".into(),
            )),
        }
    }

    fn read_file(&self, path: &str) -> Result<String, String> {
        let file = File::open(self.folder.join(path)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(MAX_REFERENCED_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_REFERENCED_BYTES {
            return Err(format!("it is larger than {MAX_REFERENCED_BYTES} bytes"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        // Editors end a file with a newline that is no part of the secret.
        if text.ends_with('\n') {
            text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
        }
        Ok(text)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl FilePath {
    /// A path without references, taken as it is.
    pub fn plain(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { shown: path.display().to_string(), path }
    }

    /// The path that a text means, in this folder.
    pub(super) fn new(text: &Text, folder: &Path) -> Self {
        let path = folder.join(text.as_str());
        if text.references.is_empty() { Self::plain(path) } else { Self { path, shown: text.shown.clone() } }
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// The path for messages: resolved, or as it was written where it holds a reference.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}
