//! `tidegate new`: the scaffold of a transform crate.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit::{Exit, UsageError};

/// The files of the crate, with `{name}`, `{type}`, `{module}` and `{sdk}` to be filled in.
const FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("scaffold/Cargo.toml.txt")),
    ("README.md", include_str!("scaffold/README.md.txt")),
    (".gitignore", "/target\n/store.db*\n/dead-letters.jsonl\n"),
    ("tidegate.toml", include_str!("scaffold/tidegate.toml.txt")),
    ("src/lib.rs", include_str!("scaffold/lib.rs.txt")),
    ("tests/recorded.rs", include_str!("scaffold/recorded.rs.txt")),
    ("tests/events.jsonl", include_str!("scaffold/events.jsonl.txt")),
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The crate's name: lower-case letters, digits and `-`, a letter first.
    name: String,
    /// The folder in which the crate's own folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The folder of the crate tidegate-sdk, `guest-sdk` of a checkout; without it the crate depends on the SDK of this
    /// version from a registry.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Exit> {
    let name = &arguments.name;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.ends_with('-') || !name.bytes().all(legal) {
        let cause = format!("`{name}` is no name for a crate; use lower-case letters, digits and `-`, a letter first");
        return Err(UsageError(cause).into());
    }
    let sdk = dependency(arguments.sdk.as_deref())?;
    let folder = arguments.path.join(name);
    if folder.exists() {
        let cause = format!("`{}` is there already; choose another name or `--path`", folder.display());
        return Err(UsageError(cause).into());
    }
    let type_name: String = name.split('-').map(capitalised).collect();
    for (file, content) in FILES {
        let content = content
            .replace("{name}", name)
            .replace("{type}", &type_name)
            .replace("{module}", &name.replace('-', "_"))
            .replace("{sdk}", &sdk);
        let file = folder.join(file);
        let parent = file.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        fs::write(&file, content).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    writeln!(io::stdout().lock(), "made `{0}`: `{0}/README.md` says what to do with it", folder.display())?;
    Ok(Exit::Done)
}

fn dependency(sdk: Option<&Path>) -> anyhow::Result<String> {
    let Some(sdk) = sdk else { return Ok(format!("{:?}", env!("CARGO_PKG_VERSION"))) };
    let found = sdk.canonicalize().ok().filter(|folder| folder.join("Cargo.toml").is_file());
    let folder = found.ok_or_else(|| UsageError(format!("there is no crate in `{}`", sdk.display())))?;
    Ok(format!("{{ path = {:?} }}", folder.display().to_string()))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
