//! The tables that the generator changes: their columns and keys, and values that columns of each type may hold.

use serde_json::Value;
use tidegate_tests::corpus;
use xtask::verify::json::Json;

use super::random::Random;

/// A column of a source table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// As PostgreSQL spells it.
    pub(super) of: String,
    pub(super) not_null: bool,
    pub(super) is_key: bool,
}

/// A source table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The column whose large values are stored apart: an update that leaves it alone does not send it.
    pub(super) large: Option<&'static str>,
    /// Whether the table has REPLICA IDENTITY FULL, so that events bring the row before them, and all of the row.
    pub(super) full: bool,
    /// The keys that rows may have, each as SQL literals of the key columns.
    pub(super) keys: Vec<Vec<String>>,
}

/// Texts that have been trouble elsewhere.
const TEXTS: [&str; 20] = [
    "plain",
    "",
    " lead and trail ",
    "日本語テキスト",
    "🚚📦 emoji 👩‍👩‍👧",
    "مرحبا بالعالم",
    "a\u{301} combining, \u{200b}zero width",
    "𝔘𝔫𝔦 astral",
    "it's \"quoted\"",
    "back\\slash \\n not a newline",
    "line one\nline two\r\n\ttabbed",
    "<b>&amp;</b>",
    "{\"json\": true}",
    "[1, 2]",
    "null",
    "0",
    "NaN",
    "100% $1 %s {} :name ${env:HOME}",
    "line\u{2028}separators\u{2029}",
    "\u{1}control\u{7f}",
];

/// How many keys the generator adds to those of the seed, for each table.
const KEYS: usize = 60;

impl Table {
    /// The tables of a group of the corpus.
    pub(super) fn all(group: &str) -> Vec<Self> {
        let types = std::fs::read_to_string(corpus(&format!("{group}/source-types.json"))).unwrap();
        let types: Value = serde_json::from_str(&types).unwrap();
        let tables = types.as_object().unwrap().iter();
        tables.map(|(name, columns)| Self::new(group, name, columns.as_array().unwrap())).collect()
    }

    fn new(group: &str, name: &str, columns: &[Value]) -> Self {
        let column = |column: &Value| Column {
            name: column["name"].as_str().unwrap().to_owned(),
            of: column["type"].as_str().unwrap().to_owned(),
            not_null: column["notNull"].as_bool().unwrap(),
            is_key: column["pk"].as_bool().unwrap(),
        };
        let large = match (group, name) {
            ("order-cache", "orders") => Some("receipt"),
            (_, "books" | "company") => Some("description"),
            ("trackops-cache", "orders") => Some("delivery_instructions"),
            (_, "job_posting") => Some("body"),
            _ => None,
        };
        let full = matches!((group, name), ("bookstore-analytics" | "trackops-cache", "orders") | (_, "contact"));
        let columns: Vec<_> = columns.iter().map(column).collect();
        let keys = (0..KEYS).map(|number| key(name, &columns, number)).collect();
        Self { name: name.to_owned(), columns, large, full, keys }
    }

    /// Adds a key that a row of the table has.
    pub(super) fn add_key(&mut self, row: &Json) {
        let columns = self.columns.iter().filter(|column| column.is_key);
        let key: Vec<_> = columns.map(|column| quoted(&row.get(&column.name).unwrap().bare())).collect();
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// The names of the key columns, as a row of SQL.
    pub(super) fn key_columns(&self) -> String {
        let columns = self.columns.iter().filter(|column| column.is_key);
        format!("({})", columns.map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", "))
    }
}

/// A key by its number: among them are some at the bounds of their type, and some with letters that need care.
fn key(table: &str, columns: &[Column], number: usize) -> Vec<String> {
    let part = |column: &Column| match (column.of.as_str(), number) {
        ("uuid", _) => format!("{:08x}-0000-4000-8000-{number:012x}", table.len()),
        ("text", number) if number % 10 == 0 => format!("ord_Ünï 🚚:{{{number}}}"),
        ("text", number) => format!("ord_{number}"),
        ("integer", 0) => i32::MAX.to_string(),
        ("integer", 1) => i32::MIN.to_string(),
        ("bigint", 0) => i64::MAX.to_string(),
        ("bigint", 1) => i64::MIN.to_string(),
        ("bigint", number) if number % 3 == 0 => (9_007_199_254_740_990 + number).to_string(),
        (_, number) => number.to_string(),
    };
    columns.iter().filter(|column| column.is_key).map(|column| quoted(&part(column))).collect()
}

/// A text as a literal of SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text of 9600 letters that does not compress, so that PostgreSQL stores it apart; computed by the server.
fn large(random: &mut Random) -> String {
    format!("(SELECT string_agg(md5(i || '{}'), '') FROM generate_series(1, 300) AS i)", random.hex())
}

/// Whether a value is one that [`large`] made.
pub(super) fn is_large(value: &Json) -> bool {
    value.text().is_some_and(|text| text.len() > 9000 && text.bytes().all(|letter| letter.is_ascii_hexdigit()))
}

/// A value for a column that is not of the key, as SQL.
pub(super) fn value(table: &Table, column: &Column, random: &mut Random) -> String {
    if !column.not_null && random.percent(20) {
        return "NULL".to_owned();
    }
    if table.large == Some(&column.name) && random.percent(60) {
        return large(random);
    }
    match column.name.as_str() {
        "status" => return quoted(random.pick(&["new", "PENDING", "CONFIRMED", "SHIPPED", "CANCELLED", "ünbekannt"])),
        "customer_id" if column.of == "uuid" => return quoted(&customer(random.below(CUSTOMERS))),
        _ => {}
    }
    match column.of.split('(').next().unwrap() {
        "integer" => quoted(random.pick(&["0", "-1", "7", "1000000", "2147483647", "-2147483648"])),
        "bigint" => quoted(random.pick(&[
            "0",
            "-9",
            "9007199254740993",
            "-9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
        ])),
        "numeric" => numeric(&column.of, random),
        "boolean" => random.pick(&["true", "false"]).to_owned(),
        "uuid" => quoted(&format!("{}-0000-4000-8000-{}", &random.hex()[..8], &random.hex()[..12])),
        "date" => quoted(random.pick(&["1970-01-01", "2024-02-29", "1582-10-15", "9999-12-31", "0001-01-01"])),
        "jsonb" => quoted(random.pick(&[
            "{}",
            "[]",
            "{\"n\": 9007199254740993, \"d\": 1.50, \"deep\": {\"a\": [1, null, {\"b\": \"ü\"}]}}",
            "[{\"lat\": -44.934749, \"label\": \"🚚 \\\"x\\\"\"}]",
            "\"text\"",
        ])),
        "text[]" => random
            .pick(&["ARRAY['one']", "'{}'", "ARRAY['b2b', 'x,y', NULL, 'ünï', '\"q\"']", "ARRAY['re', 'tag']"])
            .to_owned(),
        "timestamp" | "timestamp with time zone" | "timestamp without time zone" => timestamp(random),
        "character varying" => {
            let most = column.of.trim_end_matches(')').rsplit('(').next().unwrap().parse().unwrap();
            quoted(&text(random).chars().take(most).collect::<String>())
        }
        "text" => quoted(&text(random)),
        other => panic!("{}.{}: no values for the type {other}", table.name, column.name),
    }
}

fn text(random: &mut Random) -> String {
    // Compressed, it stays in its row.
    if random.percent(5) { "x".repeat(400) } else { random.pick(&TEXTS).to_owned() }
}

fn numeric(of: &str, random: &mut Random) -> String {
    let (precision, scale) = of["numeric(".len()..of.len() - 1].split_once(',').unwrap();
    let whole: usize = precision.parse::<usize>().unwrap() - scale.parse::<usize>().unwrap();
    let greatest = format!("{}.99", "9".repeat(whole));
    match random.below(6) {
        0 => greatest,
        1 => format!("-{greatest}"),
        2 => "0".to_owned(),
        3 => "-0.01".to_owned(),
        _ => format!("{}.{:02}", random.below(100_000), random.below(100)),
    }
}

fn timestamp(random: &mut Random) -> String {
    let year = 1990 + random.below(60);
    let zone = random.pick(&["", "Z", "+07", "-03:30"]);
    let fraction = random.pick(&["", ".5", ".123", ".123456", ".999999", ".000001"]);
    quoted(&match random.below(20) {
        0 => "infinity".to_owned(),
        1 => "-infinity".to_owned(),
        2 => "9999-12-31 23:59:59.999".to_owned(),
        _ => {
            let (month, day, hour) = (1 + random.below(12), 1 + random.below(28), random.below(24));
            format!(
                "{year}-{month:02}-{day:02} {hour:02}:{:02}:{:02}{fraction}{zone}",
                random.below(60),
                random.below(60)
            )
        }
    })
}

/// How many customers there are.
pub(super) const CUSTOMERS: usize = 12;

/// The customer of that number.
pub(super) fn customer(number: usize) -> String {
    format!("c0000000-0000-4000-8000-{number:012x}")
}
