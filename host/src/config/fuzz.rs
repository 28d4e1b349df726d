//! Fuzzing of configurations: a text is a configuration, or every problem has its place, its cause and its remedy; and
//! no secret shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env::VarError;
use std::fs;
use std::path::Path;

use super::{Config, ConfigError, Lookup};
use crate::fuzz::{Target, data};

/// An input is the text of a file.
pub(crate) const CONFIGURATIONS: Target = Target {
    name: "configurations",
    run,
    seeds,
    words: &[
        "${env:SECRET}",
        "${env:",
        "${file:secret.txt}",
        "$${",
        "[source.kafka]\nbrokers = \"b\"\n",
        "[source.file]\npaths = [\"*\"]\n",
        "[sinks.s.sqlite]\npath = \"s.db\"\n",
        "[sinks.s.redis]\nurl = \"redis://h\"\n",
        "[sinks.s.postgres]\nurl = \"${env:SECRET}\"\n",
        "[sinks.s.elasticsearch]\nurl = \"http://h\"\n",
        "[[pipelines]]\n",
        "[[pipelines.transforms]]\n",
        "[admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"${env:SECRET}\"\n",
        "settings = { a = \"${env:SECRET}\" }\n",
        "grants = { cache = [\"*\"] }\n",
        "name = \"",
        "topics = [\"^a.*\"]\n",
        "sinks = { cache = \"s\" }\n",
        "= 9223372036854775807\n",
        "= -1\n",
        "= 1e308\n",
        "= nan\n",
        "= true\n",
        "= 1979-05-27T07:32:00Z\n",
        "\"\"\"",
        "'''",
        "{",
        "}",
        "[",
        "]",
        "\u{feff}",
        "\u{202e}",
    ],
    most_bytes: 1 << 14,
    runs: 1000,
};

const SECRET: &str = "correct-horse \"battery\" \\staple";

fn seeds() -> Vec<Vec<u8>> {
    let mut folders: Vec<_> = fs::read_dir(data("cases/config")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let cases = folders.iter().map(|folder| folder.join("config.toml"));
    let others = ["../demo/tidegate.toml", "../deploy/compose/tidegate.toml"].map(data);
    cases.chain(others.into_iter().filter(|path| path.exists())).map(|path| fs::read(path).unwrap()).collect()
}

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "HOME" => Ok("/home/operator".into()),
        "SECRET" => Ok(SECRET.into()),
        _ => Err(VarError::NotPresent),
    }
}

fn read(text: &str) -> Result<Config, ConfigError> {
    // The folder of a case that has a module and a file with a secret.
    let folder = data("cases/config/references");
    Config::read(text, Path::new("tidegate.toml"), Lookup { folder: &folder, environment: &environment })
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // These never end, or are of this process.
    if text.contains("/dev/") || text.contains("/proc/") {
        return;
    }
    let shown = match read(text) {
        Ok(config) => {
            let shown = config.shown().to_string();
            assert_eq!(format!("{:?}", read(text).unwrap()), format!("{config:?}"));
            format!("{config:?}{shown}")
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                assert!(!problem.cause.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
                let is_of_all = problem.cause.contains("nested too deep");
                assert!(is_of_all || problem.line.is_some() || !problem.field.is_empty(), "{problem:?}");
                let lines = text.split('\n').count();
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?} of {lines}");
            }
            assert_eq!(error.to_string().lines().count(), error.problems().len(), "{error}");
            error.to_string()
        }
    };
    for secret in ["correct-horse", "battery", "staple"] {
        assert!(!shown.contains(secret) || text.contains(secret), "{shown}");
    }
}
