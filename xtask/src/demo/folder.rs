//! The output folder of the demo: what is written there before the host runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};

use crate::seeds::{self, Seed};
use crate::verify::json::Json;
use crate::verify::recorded;

/// The folder, ready for `tidegate run <config> --summary <summary>`.
#[derive(Debug)]
pub struct Folder {
    /// The configuration, which leads to everything else.
    pub config: PathBuf,
    /// The SQLite file that the host makes.
    pub store: PathBuf,
    /// Where the host puts what cannot be handled.
    pub dead_letters: PathBuf,
    /// Where the host is to write its counts.
    pub summary: PathBuf,
}

/// Writes the configuration and the seeds into `out`. `root` is the root of the repository, `modules` the folder of
/// the built modules, `corpus` a folder with the captured events of each system.
///
/// Without `keep`, the store and the dead letters of an earlier run are removed; no other file is touched.
///
/// # Errors
/// When the captured events cannot be read or the folder cannot be written.
pub fn prepare(root: &Path, corpus: &Path, modules: &Path, out: &Path, keep: bool) -> anyhow::Result<Folder> {
    let seeds = out.join("seeds");
    fs::create_dir_all(&seeds).with_context(|| format!("cannot make the folder {}", seeds.display()))?;
    let [out, corpus, modules] = [out, corpus, modules].map(absolute);
    let (out, corpus, modules) = (out?, corpus?, modules?);
    let folder = Folder {
        config: out.join("tidegate.toml"),
        store: out.join("demo.db"),
        dead_letters: out.join("dead-letters.jsonl"),
        summary: out.join("summary.json"),
    };
    if !keep {
        for file in ["demo.db", "demo.db-wal", "demo.db-shm", "demo.db-journal", "dead-letters.jsonl", "summary.json"] {
            remove(&out.join(file))?;
        }
    }

    let seeds = out.join("seeds");
    let sinners = recorded::read(&corpus.join("cdc-cascade"))?;
    write_seeds(&seeds.join("cache-invalidation.jsonl"), &seeds::cache_invalidation(&sinners)?)?;
    let orders = recorded::read(&corpus.join("trackops-cache"))?;
    write_seeds(&seeds.join("trackops-cache.jsonl"), &seeds::trackops_cache(&orders)?)?;

    let template = root.join("demo/tidegate.toml");
    let template = fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
    let config =
        configuration(&template, [("tests/corpus", &corpus), ("target/guests", &modules), ("target/demo", &out)])?;
    fs::write(&folder.config, config).with_context(|| format!("cannot write {}", folder.config.display()))?;
    Ok(folder)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("there is no folder {}", path.display()))
}

fn remove(file: &Path) -> anyhow::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// The demo's configuration with its three folders put where they are: each is named relative to the demo's own.
fn configuration(template: &str, folders: [(&str, &PathBuf); 3]) -> anyhow::Result<String> {
    let mut config = template.to_owned();
    for (name, folder) in folders {
        let place = folder.to_string_lossy();
        // What means something in a string of TOML, in a value of the configuration, or in a pattern.
        if place.contains(['"', '\\', '$', '*', '?', '[']) {
            bail!("the folder {place} has a character in its name that the configuration cannot hold: take another");
        }
        let named = format!("\"../{name}/");
        if !config.contains(&named) {
            bail!("demo/tidegate.toml does not name the folder ../{name}");
        }
        config = config.replace(&named, &format!("\"{place}/"));
    }
    Ok(config)
}

fn write_seeds(path: &Path, seeds: &[Seed]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for Seed { key, value } in seeds {
        let (key, value) = (Json::Text(key.clone()), Json::Text(value.clone()));
        writeln!(lines, r#"{{"key":{key},"value":{value}}}"#)?;
    }
    fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;

    use super::prepare;
    use crate::verify::fixture;
    use crate::verify::json::Json;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn the_configuration_leads_to_the_given_folders_and_to_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = prepare(root(), &fixture::corpus(), folder.path(), &folder.path().join("out"), false).unwrap();
        let config = fs::read_to_string(prepared.config).unwrap();
        let quoted = config.lines().filter(|line| !line.starts_with('#')).any(|line| line.contains("\"../"));
        assert!(!quoted, "{config}");
        assert!(config.contains(&format!("module = \"{}/order_cache.wasm\"", folder.path().display())), "{config}");
    }

    #[test]
    fn an_earlier_store_is_removed_or_kept_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = |keep| prepare(root(), &fixture::corpus(), folder.path(), folder.path(), keep).unwrap();
        let store = prepared(false).store;
        for file in [store.clone(), folder.path().join("mine.txt")] {
            fs::write(file, "").unwrap();
        }
        prepared(true);
        assert!(store.exists());
        prepared(false);
        assert!(!store.exists() && folder.path().join("mine.txt").exists());
    }

    #[test]
    fn a_seed_is_a_json_object_a_line() {
        let folder = tempfile::tempdir().unwrap();
        prepare(root(), &fixture::corpus(), folder.path(), folder.path(), false).unwrap();
        for (file, key) in
            [("cache-invalidation", "1035"), ("trackops-cache", "orders:customer:00000000-0000-4000-8000-000000000000")]
        {
            let text = fs::read_to_string(folder.path().join(format!("seeds/{file}.jsonl"))).unwrap();
            let seeds: Vec<Json> = text.lines().map(|line| Json::parse(line).unwrap()).collect();
            assert!(seeds.iter().any(|seed| seed.get("key").and_then(Json::text) == Some(key)), "{text}");
        }
    }
}
