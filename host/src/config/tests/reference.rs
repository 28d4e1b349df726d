//! `docs/reference/configuration.md` names every key that is read, no other, and the defaults as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A row of a table of the page: the key, and the default as it may be written into the file.
type Row = (String, Option<String>);

/// The rows of the page by block, as `sinks.store.sqlite`.
fn page() -> BTreeMap<String, Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let mut blocks: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut block = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let name = heading.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            block = name.map(|(name, _)| name.trim_start_matches('[').replace("NAME", "store"));
            if let Some(block) = &block {
                blocks.entry(block.clone()).or_default();
            }
        } else if let (Some(block), Some(row)) = (&block, line.strip_prefix("| `")) {
            let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
            assert_eq!(cells.len(), 6, "{line}");
            let literal = cells[2].strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
            let default = literal.filter(|literal| !literal.contains('`')).map(str::to_owned);
            let key = cells[0].trim_end_matches('`').to_owned();
            blocks.get_mut(block).unwrap().push((key, default));
        }
    }
    blocks
}

/// The keys that the reader knows by block: it lists them when it finds another one.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Folder::new();
    let stray = "stray-key-of-no-use = 1";
    let kinds =
        ["[sinks.store.sqlite]", "[sinks.other.null]", "[source.file]", "[dead_letters.file]", "[engine]", "[admin]"];
    let lists = ["[[pipelines]]", "[pipelines.batch]", "[pipelines.sinks]", "[[pipelines.transforms]]"];
    let stores =
        ["[sinks.cache.redis]", "[sinks.warehouse.postgres]", "[sinks.search.elasticsearch]", "[sinks.events.kafka]"];
    // Two sources and two kinds of dead letters are a problem, and are read all the same. Without brokers of its own
    // the topic of dead letters has no further keys.
    let kafka = ["[source.kafka]", "[dead_letters.kafka]\nbrokers = \"b:9092\""];
    let lists =
        lists.iter().chain(&["[pipelines.transforms.grants]", "[pipelines.transforms.shadow]", "[pipelines.breaker]"]);
    let blocks = stores.iter().chain(&kafka).chain(&kinds).chain(lists);
    let text: String = blocks.map(|block| format!("{block}\n{stray}\n")).collect();
    let mut known = BTreeMap::new();
    for problem in folder.load(&text).unwrap_err().problems() {
        let Some(block) = problem.field.strip_suffix(".stray-key-of-no-use") else { continue };
        let block = block.replace("[0]", "");
        let names = ["other", "cache", "warehouse", "search", "events"];
        let block = names.iter().fold(block, |block, name| block.replace(&format!("sinks.{name}."), "sinks.store."));
        let keys = problem.remedy.strip_prefix("known: ").unwrap_or_default().split(", ");
        let keys = keys.filter(|key| !key.is_empty()).map(|key| key.trim_matches('`').to_owned()).collect();
        assert!(known.insert(block, keys).is_none(), "{problem:?}");
    }
    assert_eq!(known.len(), 19);
    known
}

#[test]
fn every_key_is_on_the_page_and_every_key_of_the_page_is_read() {
    let written: BTreeMap<String, BTreeSet<String>> =
        page().into_iter().map(|(block, rows)| (block, rows.into_iter().map(|(key, _)| key).collect())).collect();
    assert_eq!(written, known());
}

#[test]
fn the_blocks_of_the_page_are_those_that_the_reader_knows() {
    let error = Folder::new().load("x = 1\n[source.x]\n[dead_letters.x]\n[sinks.store.x]\n").unwrap_err().to_string();
    for (unknown, known) in [
        ("unknown key `x`", "`admin`, `dead_letters`, `engine`, `pipelines`, `sinks`, `source`"),
        ("unknown source `x`", "`file`, `kafka`"),
        ("unknown kind of dead letters `x`", "`file`, `kafka`"),
        ("unknown sink kind `x`", "`elasticsearch`, `kafka`, `null`, `postgres`, `redis`, `sqlite`"),
    ] {
        assert!(error.contains(&format!("{unknown}; known: {known}")), "{error}");
    }
}

/// The least that each kind of block needs.
const LEAST: &str = r#"
[source.kafka]
brokers = "b:9092"
[dead_letters.kafka]
brokers = "b:9092"
[sinks.cache.redis]
url = "redis://r"
[sinks.warehouse.postgres]
url = "postgres://u@p/d"
[sinks.search.elasticsearch]
url = "http://e:9200"
[sinks.events.kafka]
brokers = "b:9092"
"#;

#[test]
fn writing_out_every_default_of_the_page_changes_nothing() {
    let page = page();
    let mut written = 0;
    let mut write_out = |text: &str| -> String {
        let lines = text.lines().map(|line| {
            let block = line.trim_matches(['[', ']']);
            let kind = block.rsplit('.').next().unwrap_or_default();
            let block = if block.starts_with("sinks.") { format!("sinks.store.{kind}") } else { block.to_owned() };
            let rows = page.get(&block).filter(|_| line.starts_with('[')).into_iter().flatten();
            // An empty table is no line: some of them are written as blocks of their own.
            let defaults =
                rows.filter_map(|(key, default)| Some((key, default.as_ref().filter(|text| *text != "{}")?)));
            let lines: Vec<_> = defaults.map(|(key, default)| format!("{key} = {default}\n")).collect();
            written += lines.len();
            format!("{line}\n{}", lines.concat())
        });
        lines.collect()
    };
    let folder = Folder::new();
    let live = LEAST.to_owned() + SMALLEST.split_once("paths = [\"events/*.jsonl\"]").unwrap().1;
    let smallest = format!("{SMALLEST}[admin]\nlisten = \"127.0.0.1:0\"\n");
    for (text, of_others) in
        [(smallest.as_str(), "[pipelines.transforms.grants]\n[engine]\n[dead_letters.file]\n"), (live.as_str(), "")]
    {
        let text = text
            .replace("[[pipelines.transforms]]", "[pipelines.batch]\n[pipelines.breaker]\n[[pipelines.transforms]]");
        let all = write_out(&format!("{text}{of_others}"));
        assert_eq!(
            format!("{:#?}", folder.load(&all).unwrap()),
            format!("{:#?}", folder.load(&text).unwrap()),
            "{all}"
        );
    }
    assert!(written > 50, "{written} defaults were found on the page");
}

#[test]
fn the_example_of_the_page_is_a_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = Folder::new();
    folder.load(&example.replace("modules/order_cache.wasm", "a.wasm")).unwrap();
}

#[test]
fn the_configuration_in_effect_is_shown_under_every_key_of_the_page() {
    let folder = Folder::new();
    let live = LEAST.to_owned() + SMALLEST.split_once("paths = [\"events/*.jsonl\"]").unwrap().1;
    let live = folder.load(&live).unwrap().shown();
    let recorded = folder.load(&format!("{SMALLEST}[admin]\nlisten = \"127.0.0.1:0\"\n")).unwrap().shown();
    let mut compared = 0;
    for (block, rows) in page() {
        let names = ["store", "cache", "warehouse", "search", "events"];
        let path =
            |name: &str| format!("/{}", block.replace("sinks.store", &format!("sinks.{name}")).replace('.', "/"));
        let path = |name: &str| path(name).replace("transforms", "transforms/0").replace("pipelines", "pipelines/0");
        // One of the two has it. The ports of these pipelines are not bound.
        let shown =
            names.iter().find_map(|name| [&recorded, &live].into_iter().find_map(|one| one.pointer(&path(name))));
        let Some(shown) = shown.filter(|shown| shown.is_object() && block != "pipelines.sinks") else { continue };
        let shown: BTreeSet<_> = shown.as_object().unwrap().keys().cloned().collect();
        assert_eq!(shown, rows.into_iter().map(|(key, _)| key).collect(), "{block}");
        compared += 1;
    }
    // Without those ports, and the block that has no key.
    assert_eq!(compared, 16);
}

#[test]
fn the_configuration_in_effect_shows_no_secret() {
    let folder = Folder::new();
    let text = format!(
        "{SMALLEST}settings = {{ key = \"${{env:SECRET}}\" }}\n{}",
        r#"
[sinks.a.redis]
url = "redis://:hunter2@r"
[sinks.b.postgres]
url = "postgres://u:${env:SECRET}@p/d"
[sinks.c.elasticsearch]
url = "http://e:9200"
api_key = "hunter2"
[sinks.d.kafka]
brokers = "b:9092"
sasl = { mechanism = "PLAIN", username = "u", password = "hunter2" }
properties = { "ssl.key.password" = "hunter2" }
[admin]
listen = "127.0.0.1:0"
token = "hunter2hunter2hunter2"
"#
    );
    let shown = folder.load(&text).unwrap().shown();
    assert!(!shown.to_string().contains("hunter2"), "{shown:#}");
    assert_eq!(shown.pointer("/sinks/b/postgres/url").unwrap(), "postgres://u:${env:SECRET}@p/d");
    assert_eq!(shown.pointer("/pipelines/0/transforms/0/settings/key").unwrap(), "${env:SECRET}");
}
