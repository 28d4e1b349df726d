//! What the servers that run on Java share: how they are started, and files of properties.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::process::{Launch, Ready};

/// What a server that runs on Java is started for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// To be there soon, on few cores: code is compiled once, and quickly. For tests.
    #[default]
    SoonUp,
    /// To be fast after a while, as in production: what is often run is compiled again, and well. For measurements.
    Full,
}

/// A Java program.
pub(super) struct Program<'a> {
    /// Its class.
    pub(super) class: &'a str,
    /// Folders of jars, ended by `*`, and of classes.
    pub(super) class_path: &'a [PathBuf],
    pub(super) pace: Pace,
    /// The most memory for objects, as in `-Xmx`.
    pub(super) heap: &'a str,
    /// Arguments of the Java machine, mostly `-D…`.
    pub(super) machine: Vec<OsString>,
    pub(super) arguments: Vec<OsString>,
}

impl Program<'_> {
    /// The arguments of `java`.
    pub(super) fn command(self) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![format!("-Xmx{}", self.heap).into()];
        command.extend(["-XX:+UseSerialGC", "-Xshare:auto"].map(OsString::from));
        if self.pace == Pace::SoonUp {
            command.push("-XX:TieredStopAtLevel=1".into());
        }
        command.push("-Dfile.encoding=UTF-8".into());
        command.extend(self.machine);
        command.push("-cp".into());
        let mut class_path = OsString::new();
        for (place, part) in self.class_path.iter().enumerate() {
            class_path.push(if place == 0 { "" } else { ":" });
            class_path.push(part);
        }
        command.push(class_path);
        command.push(self.class.into());
        command.extend(self.arguments);
        command
    }

    /// As a server that is ready by this condition.
    pub(super) fn launch(self, ready: Ready) -> Launch {
        Launch { program: "java".into(), arguments: self.command(), user: None, end: "TERM", abort: "KILL", ready }
    }
}

/// Writes a file of properties: ours as they stand in `template`, with each `{name}` filled in, and the given ones
/// after them, which they outrank.
pub(super) fn write_properties(
    file: &Path,
    template: &str,
    filled: &[(&str, &str)],
    given: &[(String, String)],
) -> anyhow::Result<()> {
    let mut text = template.to_owned();
    for (name, value) in filled {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    for (name, value) in given {
        // A line break ends a value, and a backslash begins an escape.
        writeln!(text, "{name}={}", value.replace('\\', "\\\\").replace('\n', "\\n"))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
