//! Breaks of the delivery protocol, each made in a copy of the sources: a test that does not find them is worth nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::console;
use crate::workspace::Workspace;

/// What must find a break.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finder {
    /// The schedules of faults.
    Schedules,
    /// The tests of the library whose names begin so.
    Tests(&'static str),
}

/// One break.
#[derive(Debug)]
pub(super) struct Break {
    pub(super) name: &'static str,
    file: &'static str,
    /// Text, which must be there once, and what takes its place.
    changes: &'static [(&'static str, &'static str)],
    pub(super) finder: Finder,
}

const LEDGER: &str = "host/src/sink/postgres/ledger.rs";

/// All of them.
pub(super) const BREAKS: [Break; 7] = [
    Break {
        name: "skip-the-fence",
        file: LEDGER,
        changes: &[
            ("AND token = $8 AND next_offset = $9\"", "AND $8::text <> '' AND $9::bigint >= 0\""),
            ("AND token = $5 AND next_offset = $6\n", "AND $5::text <> '' AND $6::bigint >= 0\n"),
        ],
        finder: Finder::Schedules,
    },
    Break {
        name: "compare-the-owner-only",
        file: LEDGER,
        changes: &[
            ("AND token = $8 AND next_offset = $9\"", "AND token = $8 AND $9::bigint >= 0\""),
            ("AND token = $5 AND next_offset = $6\n", "AND token = $5 AND $6::bigint >= 0\n"),
        ],
        finder: Finder::Schedules,
    },
    Break {
        name: "commit-before-the-write",
        file: "host/src/sink/postgres/write.rs",
        changes: &[(
            "        let known = self.known(session, &changes).await?;\n        let all",
            "        session.run(COMMIT).await?;\n        session.run(BEGIN).await?;\n        \
             let known = self.known(session, &changes).await?;\n        let all",
        )],
        finder: Finder::Schedules,
    },
    Break {
        name: "take-every-conflict-as-success",
        file: "host/src/sink/elasticsearch/bulk.rs",
        changes: &[("if there.unwrap_or(line.version.saturating_add(1)) >= bound {", "if bound == 0 {")],
        finder: Finder::Tests("sink::elasticsearch::tests::replay"),
    },
    Break {
        name: "write-an-older-command-over",
        file: "host/src/sink/elasticsearch/bulk.rs",
        changes: &[("self.redo && is_open && *there < self.end", "self.redo && *there < self.end")],
        finder: Finder::Tests("sink::elasticsearch::tests::refusals"),
    },
    Break {
        name: "fold-a-delete-away",
        file: "host/src/command/collapse.rs",
        changes: &[(
            "                slot.before = Some(at);\n",
            "                if matches!(command, Command::CacheDelete { .. } | Command::RowDelete(_)) {\n                    \
             continue;\n                }\n                slot.before = Some(at);\n",
        )],
        finder: Finder::Schedules,
    },
    Break {
        name: "file-letters-by-partition",
        file: "host/src/pipeline/letters.rs",
        changes: &[(
            "if self.of_batches.contains(&refused.answer(offset)) {",
            "if self.of_batches.contains(&refused.answer(offset)) || self.stretches.values().any(|known| offset < known.to) {",
        )],
        finder: Finder::Tests("pipeline::tests"),
    },
];

impl Break {
    /// Copies the sources, breaks them, builds the program, and answers where it and the sources lie.
    ///
    /// # Errors
    /// When the text to be broken is not there once, or it does not build.
    pub(super) fn build(&self, workspace: &Workspace) -> anyhow::Result<(PathBuf, PathBuf)> {
        let folder = workspace.target.join("broken");
        let sources = folder.join("sources");
        if sources.exists() {
            fs::remove_dir_all(&sources).with_context(|| format!("cannot empty {}", sources.display()))?;
        }
        copy(&workspace.root, &sources, &workspace.target)?;
        let file = sources.join(self.file);
        let mut text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for (from, to) in self.changes {
            if text.matches(from).count() != 1 {
                bail!("{}: {from:?} is not there once: write the break `{}` anew", self.file, self.name);
            }
            text = text.replace(from, to);
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        console::run(&mut cargo(workspace, &sources, &["build", "--workspace", "--bins"]))?;
        let program = folder.join(self.name);
        fs::copy(workspace.target.join("debug/tidegate"), &program).context("cannot keep the broken program")?;
        Ok((program, sources))
    }
}

/// Cargo in the broken sources. It keeps what it builds where the sound ones are, so that dependencies are built once; the
/// workspace's own crates get a setting of their own, without which cargo would take the one for the other.
pub(super) fn cargo(workspace: &Workspace, sources: &Path, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo(&[]);
    for member in ["tidegate", "xtask", "tidegate-tests", "tidegate-sdk", "tidegate-sdk-macros"] {
        command.args(["--config", &format!("profile.dev.package.{member}.codegen-units=7")]);
    }
    command.args(arguments).current_dir(sources).env("CARGO_TARGET_DIR", &workspace.target);
    command
}

/// Copies a folder, without what git and cargo keep there.
fn copy(from: &Path, to: &Path, target: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path == target || name == ".git" || name == "target" {
            continue;
        }
        let place = to.join(&name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&path, &place, target)?;
        } else if kind.is_symlink() {
            let leads = fs::read_link(&path)?;
            std::os::unix::fs::symlink(leads, &place).with_context(|| format!("cannot make {}", place.display()))?;
        } else {
            fs::copy(&path, &place).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_broken_is_in_the_sources_once() {
        let root = Workspace::load().unwrap().root;
        for Break { name, file, changes, .. } in BREAKS {
            let text = fs::read_to_string(root.join(file)).unwrap();
            for (from, _) in changes {
                assert_eq!(text.matches(from).count(), 1, "{name}: {file}: {from:?}");
            }
        }
    }
}
