//! Redis.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::prerequisites::{self, Program};
use super::process::{Launch, Ready, Running};

/// A Redis server. Nothing is written to disk unless an argument asks for it.
#[derive(Debug, Default)]
pub struct Redis {
    /// Arguments of `redis-server` after ours, which they outrank: `["--requirepass", "secret"]`, `--aclfile`,
    /// `--unixsocket`. For TLS with the client's certificate not asked for: `--tls-cert-file`, `--tls-key-file`,
    /// `--tls-auth-clients no`, and [`Redis::tls`].
    pub arguments: Vec<String>,
    /// Whether the port speaks TLS, and TLS alone.
    pub tls: bool,
}

impl Redis {
    /// Starts it with its data in `folder`. The URL is `redis://127.0.0.1:PORT`, or `rediss://` with TLS; a user and
    /// a password are not part of it.
    ///
    /// # Errors
    /// When Redis is not installed or does not start; the message holds the end of its log.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        prerequisites::require(&[Program::Redis])?;
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make the folder {}", data.display()))?;
        let scheme = if self.tls { "rediss" } else { "redis" };
        Running::start(
            "Redis",
            folder,
            1,
            |port| format!("{scheme}://127.0.0.1:{port}"),
            |ports| {
                let port = ports[0].to_string();
                let mut arguments: Vec<OsString> = Vec::new();
                if self.tls {
                    arguments.extend(["--port", "0", "--tls-port", &port].map(OsString::from));
                } else {
                    arguments.extend(["--port", &port].map(OsString::from));
                }
                arguments.extend(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(OsString::from));
                arguments.extend(["--dir".into(), data.clone().into_os_string()]);
                arguments.extend(self.arguments.iter().map(OsString::from));
                Ok(Launch {
                    program: "redis-server".into(),
                    arguments,
                    user: None,
                    end: "TERM",
                    abort: "KILL",
                    ready: Ready::Logged("Ready to accept connections"),
                })
            },
        )
    }
}
