//! Which topics a pipeline reads: exact names, and patterns, which begin with `^` as in librdkafka.

use regex::Regex;

/// The topics of a pipeline.
#[derive(Debug, Clone)]
pub struct Topics {
    /// As they were written.
    written: Vec<String>,
    patterns: Vec<Regex>,
}

impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Topics {}

impl Topics {
    /// Topics as they are written in the configuration.
    ///
    /// # Errors
    /// When a pattern is none; the text is the cause.
    pub fn new(written: &[String]) -> Result<Self, String> {
        let patterns = written.iter().filter(|topic| is_pattern(topic)).map(|topic| pattern(topic));
        Ok(Self { written: written.to_vec(), patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// The names and patterns as they were written.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Whether there are patterns among them.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether a topic is one of them.
    pub fn contains(&self, topic: &str) -> bool {
        self.written.iter().any(|name| name == topic) || self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }
}

/// Whether this is a pattern, and no name.
pub(crate) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// Reads a pattern.
///
/// # Errors
/// When it is none, or when librdkafka, which takes POSIX extended expressions, would understand it otherwise.
pub(crate) fn pattern(topic: &str) -> Result<Regex, String> {
    let mut characters = topic.chars();
    while let Some(character) = characters.next() {
        if character == '\\'
            && let Some(escaped) = characters.next()
            && escaped.is_alphanumeric()
        {
            return Err(format!(
                "`\\{escaped}` has another meaning for brokers' clients: write the characters, as `[0-9]`"
            ));
        }
    }
    if topic.contains("(?") {
        return Err("`(?` is none of the expressions that clients take".into());
    }
    Regex::new(topic).map_err(|error| match error {
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_known_by_its_first_character_and_a_name_is_exact() {
        let topics = Topics::new(&["a.b".into(), "^server\\.public\\.".into()]).unwrap();
        let contained = ["a.b", "axb", "a.bc", "server.public.orders", "server.publicorders", "my.server.public.x"]
            .map(|topic| topics.contains(topic));
        assert_eq!(contained, [true, false, false, true, false, false]);
    }

    #[test]
    fn what_clients_would_understand_otherwise_is_refused() {
        for (text, cause) in [("^a\\d", "[0-9]"), ("^(?i)a", "(?"), ("^a(", "unclosed group")] {
            let refused = Topics::new(&[text.to_owned()]).unwrap_err();
            assert!(refused.contains(cause), "{text}: {refused}");
        }
    }
}
