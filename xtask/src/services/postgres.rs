//! PostgreSQL: a cluster of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::prerequisites::{self, Program};
use super::process::{Launch, Ready, Running, is_root, setpriv};
use super::quietly;

/// Who runs the server where we are root, which it refuses to be run by. Debian's package makes this user.
const USER: &str = "postgres";

/// A PostgreSQL server with one superuser, `postgres`, and `wal_level=logical`. It does not wait for the disk: its data
/// outlives its process, not the machine.
#[derive(Debug, Default)]
pub struct Postgres {
    /// The superuser's password, asked for by SCRAM-SHA-256. None: every user is let in without one.
    pub password: Option<String>,
    /// Speak TLS; connections without it are refused.
    pub tls: Option<Identity>,
    /// Settings as in `postgresql.conf`; they outrank ours.
    pub settings: Vec<(String, String)>,
}

/// What a server shows to prove who it is, as PEM files.
#[derive(Debug)]
pub struct Identity {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Postgres {
    /// Starts it with its data in `folder`, which keeps the cluster of an earlier start. The URL is
    /// `postgres://postgres@127.0.0.1:PORT`, with the password where there is one; no database is named in it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the message holds the end of its log.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        prerequisites::require(&[Program::Postgres])?;
        let programs = prerequisites::postgres_programs().context("PostgreSQL is not installed")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // Its own user works elsewhere, so a path relative to our folder would not be found.
        let folder = fs::canonicalize(folder).with_context(|| format!("cannot find {}", folder.display()))?;
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            self.make_cluster(&programs, &folder, &data)?;
        }
        let user = self.password.as_ref().map_or_else(|| USER.to_owned(), |password| format!("{USER}:{password}"));
        Running::start(
            "PostgreSQL",
            &folder,
            1,
            |port| format!("postgres://{user}@127.0.0.1:{port}"),
            |ports| {
                let port = ports[0].to_string();
                let mut arguments: Vec<OsString> = vec!["-D".into(), data.clone().into_os_string()];
                let own = [
                    ("port", port.as_str()),
                    ("listen_addresses", "127.0.0.1"),
                    ("unix_socket_directories", ""),
                    ("wal_level", "logical"),
                    ("max_replication_slots", "40"),
                    ("max_wal_senders", "40"),
                    ("max_slot_wal_keep_size", "2GB"),
                    ("max_connections", "200"),
                    ("fsync", "off"),
                    ("ssl", if self.tls.is_some() { "on" } else { "off" }),
                ];
                let own = own.iter().map(|(name, value)| (*name, *value));
                let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                for (name, value) in own.chain(given) {
                    arguments.extend(["-c".into(), format!("{name}={value}").into()]);
                }
                let asked = ["-q", "-h", "127.0.0.1", "-p", &port].map(str::to_owned).to_vec();
                Ok(Launch {
                    program: programs.join("postgres").into_os_string(),
                    arguments,
                    user: Some(USER),
                    // A "fast" and an "immediate" shutdown: SIGTERM would wait for the clients to leave.
                    end: "INT",
                    abort: "QUIT",
                    ready: Ready::Command(programs.join("pg_isready"), asked),
                })
            },
        )
    }

    fn make_cluster(&self, programs: &Path, folder: &Path, data: &Path) -> anyhow::Result<()> {
        let mut make = Command::new("install");
        make.args(["-d", "-m", "700"]);
        if is_root() {
            make.args(["-o", USER, "-g", USER]);
        }
        quietly(make.arg(data))?;

        let mut initdb = setpriv(Some(USER));
        initdb.arg(programs.join("initdb")).arg("-D").arg(data);
        initdb.args(["-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        match &self.password {
            None => initdb.args(["--auth", "trust"]),
            Some(password) => {
                let file = folder.join("password");
                fs::write(&file, password).with_context(|| format!("cannot write {}", file.display()))?;
                initdb.args(["--auth", "scram-sha-256", "--pwfile"]).arg(file)
            }
        };
        quietly(&mut initdb)?;

        if let Some(identity) = &self.tls {
            for (from, name) in [(&identity.certificate, "server.crt"), (&identity.key, "server.key")] {
                // The server reads a key only if nobody else can.
                quietly(setpriv(Some(USER)).args(["install", "-m", "600"]).arg(from).arg(data.join(name)))?;
            }
        }
        let access = data.join("pg_hba.conf");
        fs::write(&access, self.access()?).with_context(|| format!("cannot write {}", access.display()))
    }

    /// Who may connect, and how: the file `pg_hba.conf`.
    fn access(&self) -> anyhow::Result<String> {
        let kind = if self.tls.is_some() { "hostssl" } else { "host" };
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        let mut lines = String::new();
        for database in ["all", "replication"] {
            writeln!(lines, "{kind} {database} all 127.0.0.1/32 {method}")?;
        }
        Ok(lines)
    }
}
