//! Connect's wrapper around a key or a value: `{"schema":…,"payload":…}`.

use super::decode::Trouble;
use super::json::{Object, Scanner};
use super::malformed::Malformed;
use super::schema::Columns;

/// What is asked of the one who knows schemas.
#[derive(Debug, Clone, Copy)]
pub(super) enum Schema<'t> {
    /// The text may begin with a schema: is it a known one?
    Begins(&'t str),
    /// The text is a schema.
    Is(&'t str),
}

/// A wrapper that has been entered, or none.
pub(super) enum Wrapper {
    /// There is none; the scanner stands at the value itself.
    Absent,
    /// The scanner stands at the payload, which is the last member.
    Open(Object, Columns),
    /// The scanner stands at the payload; the text behind it has been scanned before.
    Scanned(Columns),
}

impl Wrapper {
    pub(super) fn columns(&self) -> Columns {
        match self {
            Self::Absent => None,
            Self::Open(_, columns) | Self::Scanned(columns) => columns.clone(),
        }
    }

    /// Checks what follows the payload.
    pub(super) fn close(self, scanner: &mut Scanner<'_>) -> Result<(), Trouble> {
        match self {
            Self::Absent => {}
            Self::Scanned(_) => return Ok(()),
            Self::Open(mut object, _) => {
                let at = scanner.at();
                if scanner.member(&mut object)?.is_some() {
                    let reason = format!("at byte {at}: expected `}}` after `schema` and `payload`, found a member");
                    return Err(Trouble::Meaning(reason));
                }
            }
        }
        Ok(scanner.end()?)
    }
}

/// Enters the wrapper if there is one; else the scanner stays where it is.
///
/// JsonConverter writes the schema first. Only where the payload comes first, or the schema is null, is the whole
/// text looked at before the payload: a row may have columns of these names.
pub(super) fn open(
    scanner: &mut Scanner<'_>,
    mut known: impl FnMut(Schema<'_>) -> Result<Option<(usize, Columns)>, Trouble>,
) -> Result<Wrapper, Trouble> {
    if scanner.peek() != Some(b'{') {
        return Ok(Wrapper::Absent);
    }
    let text = scanner.text();
    // Nearly all names tell by their first byte that they are neither of the two, nor an escaped form of them.
    if let Some([b'"', first, ..]) = text.as_bytes().get(scanner.at() + 1..)
        && !matches!(first, b's' | b'p' | b'\\')
    {
        return Ok(Wrapper::Absent);
    }
    let mut inner = scanner.clone();
    let mut object = inner.enter()?;
    // An empty object is no wrapper, and what is malformed is told by those who come after.
    let Ok(Some(name)) = inner.member(&mut object) else { return Ok(Wrapper::Absent) };
    match &*name.of(text) {
        "schema" if inner.peek() == Some(b'{') => {}
        "schema" | "payload" => return by_whole_text(scanner, known),
        _ => return Ok(Wrapper::Absent),
    }
    let columns = match known(Schema::Begins(&text[inner.at()..]))? {
        Some((length, columns)) => {
            inner.skip_known(length);
            columns
        }
        None => {
            let schema = inner.value()?;
            if !is_schema(schema)? {
                return Ok(Wrapper::Absent);
            }
            known(Schema::Is(schema))?.and_then(|(_, columns)| columns)
        }
    };
    match inner.member(&mut object)? {
        Some(name) if name.of(text) == "payload" => {
            *scanner = inner;
            Ok(Wrapper::Open(object, columns))
        }
        _ => Ok(Wrapper::Absent),
    }
}

fn by_whole_text(
    scanner: &mut Scanner<'_>,
    mut known: impl FnMut(Schema<'_>) -> Result<Option<(usize, Columns)>, Trouble>,
) -> Result<Wrapper, Trouble> {
    let text = scanner.text();
    let mut inner = scanner.clone();
    let mut object = inner.enter()?;
    let (mut schema, mut payload) = (None, None);
    let mut members = 0;
    while let Some(name) = inner.member(&mut object)? {
        members += 1;
        let at_value = inner.clone();
        let value = inner.value()?;
        match &*name.of(text) {
            "schema" => schema = Some(value),
            "payload" => payload = Some(at_value),
            _ => return Ok(Wrapper::Absent),
        }
    }
    inner.end()?;
    match (schema, payload) {
        (Some(schema), Some(payload)) if members == 2 && (schema == "null" || is_schema(schema)?) => {
            let columns = if schema == "null" { None } else { known(Schema::Is(schema))?.and_then(|(_, of)| of) };
            *scanner = payload;
            Ok(Wrapper::Scanned(columns))
        }
        _ => Ok(Wrapper::Absent),
    }
}

/// Whether a value is a schema: an object whose `type` is a string.
fn is_schema(value: &str) -> Result<bool, Malformed> {
    let mut scanner = Scanner::new(value);
    if scanner.peek() != Some(b'{') {
        return Ok(false);
    }
    let mut object = scanner.enter()?;
    while let Some(name) = scanner.member(&mut object)? {
        if name.of(value) == "type" {
            return Ok(scanner.peek() == Some(b'"'));
        }
        scanner.skip_value()?;
    }
    Ok(false)
}
