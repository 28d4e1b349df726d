//! What must be installed for the servers to run, and the browser: looked for, installed where that is ours to do, else named.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::process::is_root;
use super::quietly;
use crate::console;

/// A program that a server or a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// `setpriv`, which every server is started by.
    Setpriv,
    Redis,
    Postgres,
    /// A JDK: the nodes' launchers are compiled.
    Java,
    Maven,
    /// The browser that the page of the admin API is tried in.
    Chromium,
}

/// All of them.
const ALL: [Program; 6] =
    [Program::Setpriv, Program::Redis, Program::Postgres, Program::Java, Program::Maven, Program::Chromium];

/// Those that servers need.
pub(super) const SERVERS: [Program; 4] = [Program::Redis, Program::Postgres, Program::Java, Program::Maven];

/// What is not here.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    program: Program,
    /// The version that is here but too old.
    found: Option<u32>,
}

impl Program {
    /// The Debian package that has it.
    fn package(self) -> &'static str {
        match self {
            Self::Setpriv => "util-linux",
            Self::Redis => "redis-server",
            Self::Postgres => "postgresql",
            Self::Java => "default-jdk-headless",
            Self::Maven => "maven",
            Self::Chromium => "chromium",
        }
    }

    /// Its name for people, and the first version that will do, where that matters.
    fn wanted(self) -> (&'static str, Option<u32>) {
        match self {
            Self::Setpriv => ("setpriv", None),
            Self::Redis => ("Redis", None),
            Self::Postgres => ("PostgreSQL", Some(15)),
            Self::Java => ("a JDK", Some(17)),
            Self::Maven => ("Maven", None),
            Self::Chromium => ("Chromium", None),
        }
    }

    /// What it answers when asked for its version. None when it is not here.
    fn version(self) -> Option<String> {
        let (program, argument) = match self {
            Self::Setpriv => (PathBuf::from("setpriv"), "--version"),
            Self::Redis => (PathBuf::from("redis-server"), "--version"),
            Self::Postgres => (postgres_programs()?.join("postgres"), "--version"),
            Self::Java => (PathBuf::from("javac"), "-version"),
            Self::Maven => (PathBuf::from("mvn"), "--version"),
            Self::Chromium => (PathBuf::from("chromium"), "--version"),
        };
        let output = Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// What its answer lacks. None when it will do.
    fn lack(self, version: Option<&str>) -> Option<Missing> {
        let Some(version) = version else { return Some(Missing { program: self, found: None }) };
        let least = self.wanted().1?;
        // "postgres (PostgreSQL) 15.14 (Debian …)", "javac 17.0.15": the first number that is not within a word.
        let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        let major = number.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()?;
        (major < least).then_some(Missing { program: self, found: Some(major) })
    }
}

/// The folder with PostgreSQL's programs, of the latest version that is installed as Debian does, else where the PATH
/// has them.
pub(super) fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let folder = |version| Path::new("/usr/lib/postgresql").join(version).join("bin");
    let installed = versions.filter(|version| folder(version.to_string()).join("postgres").exists()).max();
    if let Some(version) = installed {
        return Some(folder(version.to_string()));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join("postgres").exists() && folder.join("initdb").exists())
}

/// Fails when one of these is missing, or `setpriv`.
///
/// # Errors
/// One message that names all that is missing, and the command that installs it.
pub(super) fn require(programs: &[Program]) -> anyhow::Result<()> {
    let missing = missing(programs);
    if missing.is_empty() { Ok(()) } else { bail!(message(&missing)) }
}

/// Installs what is missing of these, where we are root on a system with apt-get.
///
/// # Errors
/// As [`require`], and when the installation fails.
pub(super) fn install(programs: &[Program]) -> anyhow::Result<()> {
    let lacking = missing(programs);
    let apt = Command::new("apt-get").arg("--version").output().is_ok_and(|output| output.status.success());
    if lacking.is_empty() || !apt || !is_root() {
        return require(programs);
    }
    let packages: Vec<&str> = lacking.iter().map(|missing| missing.program.package()).collect();
    console::say(format_args!("  installing {}", packages.join(" ")));
    // Before the lists are fetched, as most often they are there.
    if apt_get(&packages).is_err() {
        quietly(Command::new("apt-get").arg("update")).context("the lists of packages cannot be fetched")?;
        apt_get(&packages)?;
    }
    require(programs)
}

/// Installs packages, and has the system start no service of theirs, now or later.
fn apt_get(packages: &[&str]) -> anyhow::Result<()> {
    // Debian asks this program before it starts a service of a package.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        let no = "#!/bin/sh\nexit 101\n";
        fs::write(policy, no).with_context(|| format!("cannot write {}", policy.display()))?;
        quietly(Command::new("chmod").arg("755").arg(policy))?;
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    let installed = quietly(install.env("DEBIAN_FRONTEND", "noninteractive"));
    if ours {
        fs::remove_file(policy).with_context(|| format!("cannot remove {}", policy.display()))?;
    }
    installed.with_context(|| format!("cannot install {}", packages.join(" ")))?;
    if Path::new("/run/systemd/system").exists() {
        for package in packages.iter().filter(|package| ["postgresql", "redis-server"].contains(package)) {
            quietly(Command::new("systemctl").args(["disable", package]))?;
        }
    }
    Ok(())
}

fn missing(programs: &[Program]) -> Vec<Missing> {
    let all = ALL.iter().filter(|program| programs.contains(program) || **program == Program::Setpriv);
    all.filter_map(|program| program.lack(program.version().as_deref())).collect()
}

fn message(missing: &[Missing]) -> String {
    let mut text = "the tests need what is not installed:".to_owned();
    for Missing { program, found } in missing {
        let (name, least) = program.wanted();
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {name}");
        if let Some(least) = least {
            let _ = write!(text, " {least} or later");
        }
        if let Some(found) = found {
            let _ = write!(text, " (here is {found})");
        }
    }
    let packages: Vec<&str> = missing.iter().map(|missing| missing.program.package()).collect();
    let _ =
        write!(text, "\nOn Debian or Ubuntu, as root: apt-get install --no-install-recommends {}", packages.join(" "));
    text
}

#[cfg(test)]
mod tests {
    use super::{Missing, Program, message};

    #[test]
    fn a_version_is_read_from_what_the_program_answers() {
        let lack = |program: Program, answer| program.lack(answer).map(|missing| missing.found);
        assert_eq!(lack(Program::Postgres, Some("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n")), None);
        assert_eq!(lack(Program::Postgres, Some("postgres (PostgreSQL) 13.22")), Some(Some(13)));
        assert_eq!(lack(Program::Postgres, Some("postgres (PostgreSQL) 19devel")), None);
        assert_eq!(lack(Program::Java, Some("javac 17.0.15")), None);
        assert_eq!(lack(Program::Java, Some("javac 1.8.0_392")), Some(Some(1)));
        assert_eq!(lack(Program::Java, None), Some(None));
        assert_eq!(lack(Program::Redis, Some("Redis server v=7.0.15 sha=00000000:0")), None);
    }

    #[test]
    fn one_message_names_all_that_is_missing_and_the_command() {
        let missing = [
            Missing { program: Program::Redis, found: None },
            Missing { program: Program::Postgres, found: Some(13) },
            Missing { program: Program::Java, found: None },
        ];
        let expected = "the tests need what is not installed:\
            \n  Redis\
            \n  PostgreSQL 15 or later (here is 13)\
            \n  a JDK 17 or later\
            \nOn Debian or Ubuntu, as root: \
            apt-get install --no-install-recommends redis-server postgresql default-jdk-headless";
        assert_eq!(message(&missing), expected);
    }
}
