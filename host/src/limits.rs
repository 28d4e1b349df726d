//! Every fixed bound on what a module or a peer makes the host hold, in one place: how much, why, and what comes of more.
//! What an operator can set is in `[engine]` ([`crate::engine::Limits`]). `docs/reference/limits.md` lists both; a test
//! holds it against [`ALL`].

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded.
    pub of: &'static str,
    /// The most that is allowed.
    pub most: usize,
    /// Of what.
    pub unit: &'static str,
    /// Why it is that much.
    pub why: &'static str,
    /// What comes of more.
    pub then: &'static str,
}

/// The text of a refusal or a rejection.
pub const REASON: Bound = Bound {
    of: "the reason of a rejection or a refused module",
    most: 8 << 10,
    unit: "bytes",
    why: "nobody reads more, and each is logged, filed or kept",
    then: "the rest is cut off",
};

/// Names that one message lists.
pub const LISTED: Bound = Bound {
    of: "names, or problems, that one message lists",
    most: 8,
    unit: "names",
    why: "the first ones tell what is wrong",
    then: "the others are counted",
};

/// Deployments that the registry remembers.
pub const OFFERS: Bound = Bound {
    of: "deployments that are remembered",
    most: 100,
    unit: "deployments",
    why: "`GET /v1/modules` answers all of them, each with its reason",
    then: "the oldest that is decided is forgotten",
};

/// All that a module declares.
pub const DECLARATION: Bound = Bound {
    of: "the texts of all that a module declares",
    most: 1 << 20,
    unit: "bytes",
    why: "a declaration is kept for each set of modules; a large mapping has a tenth of it",
    then: "the module is refused",
};

/// Names that a module declares for one port.
pub const DECLARED: Bound = Bound {
    of: "names that a module declares for one port",
    most: 1_000,
    unit: "names",
    why: "each command is compared with them",
    then: "the module is refused",
};

/// A name, but that of a cache key.
pub const NAME: Bound = Bound {
    of: "a name of a transform, version, table, column, index, topic or header",
    most: 255,
    unit: "bytes",
    why: "no store takes a longer one",
    then: "the module is refused; at a column or a header, the change is rejected",
};

/// The columns of a declared key.
pub const KEY_COLUMNS: Bound = Bound {
    of: "columns of a table's key",
    most: 32,
    unit: "columns",
    why: "PostgreSQL takes no more in an index",
    then: "the module is refused",
};

/// A cache key, or a pattern of one.
pub const CACHE_KEY: Bound = Bound {
    of: "a cache key, or a declared pattern of keys",
    most: 4096,
    unit: "bytes",
    why: "a key is kept wherever it is compared",
    then: "the change is rejected; at a pattern, the module is refused",
};

/// A document's id.
pub const DOCUMENT_ID: Bound = Bound {
    of: "a document's id",
    most: 512,
    unit: "bytes",
    why: "Elasticsearch takes no longer one",
    then: "the change is rejected",
};

/// The members of one object: of a row, a document, or the fields of a merge.
pub const MEMBERS: Bound = Bound {
    of: "members of one row, document or merge",
    most: 10_000,
    unit: "members",
    why: "each is held by itself, and no store takes as many columns or fields",
    then: "the change is rejected",
};

/// What a member costs beside its texts: two allocations, and where they are.
pub const MEMBER_COST: usize = 104;

/// The headers of a message.
pub const HEADERS: Bound = Bound {
    of: "headers of a message",
    most: 100,
    unit: "headers",
    why: "each is held by itself",
    then: "the change is rejected",
};

/// Columns of a table in SQLite.
pub const SQLITE_COLUMNS: Bound = Bound {
    of: "columns of a table in SQLite",
    most: 2_000,
    unit: "columns",
    why: "SQLite takes no more, and they are counted before the first is added",
    then: "the change is rejected",
};

/// The text of statements that a sink remembers.
pub const STATEMENTS: Bound = Bound {
    of: "the text of remembered SQL statements, for each connection",
    most: 4 << 20,
    unit: "bytes",
    why: "each set of columns is a statement of its own",
    then: "they are forgotten, and prepared again when they come",
};

/// JSON that is compared by its meaning.
pub const COMPARED: Bound = Bound {
    of: "a JSON text of a command that a shadow run compares by its meaning",
    most: 1 << 20,
    unit: "bytes",
    why: "it is taken apart, which takes many times its length",
    then: "it is compared as it is written",
};

/// All of them.
pub const ALL: [Bound; 14] = [
    REASON,
    LISTED,
    OFFERS,
    DECLARATION,
    DECLARED,
    NAME,
    KEY_COLUMNS,
    CACHE_KEY,
    DOCUMENT_ID,
    MEMBERS,
    HEADERS,
    SQLITE_COLUMNS,
    STATEMENTS,
    COMPARED,
];

/// The text, cut between characters where it is longer than this bound allows.
pub(crate) fn cut(mut text: String, bound: Bound) -> String {
    let end = text.floor_char_boundary(bound.most);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
        // What was cut off is not kept either.
        text.shrink_to_fit();
    }
    text
}

/// So many texts at most, and how many more there were.
pub(crate) fn first(mut texts: Vec<String>) -> Vec<String> {
    let more = texts.len().saturating_sub(LISTED.most);
    if more > 0 {
        texts.truncate(LISTED.most);
        texts.push(format!("{more} more"));
    }
    texts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn reference_page_lists_every_bound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/limits.md");
        let page = fs::read_to_string(path).unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Bound"));
        let expected =
            ALL.map(|Bound { of, most, unit, why, then }| format!("| {of} | {most} {unit} | {why} | {then} |"));
        assert_eq!(rows.collect::<Vec<_>>().join("\n"), expected.join("\n"));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = format!("x{}", "é".repeat(REASON.most));
        assert_eq!(cut(long, REASON), format!("x{}…", "é".repeat(REASON.most / 2 - 1)));
        assert_eq!(cut("short".into(), REASON), "short");
    }
}
