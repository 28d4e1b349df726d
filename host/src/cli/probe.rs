//! `tidegate probe`: asks a running program whether it lives or is ready.
//!
//! It takes the address and no configuration: a file that was edited in the meantime, and is wrong, must not have a
//! healthy program taken for a dead one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::client::reachable;
use super::exit::{Exit, UsageError};

/// How long a step of the exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than an answer has.
const ANSWER_BYTES: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to ask for.
    #[arg(value_enum)]
    what: What,
    /// Where the program listens, as `listen` of [admin] says: `unix:/run/tidegate/admin.sock` or `127.0.0.1:9400`.
    #[arg(value_name = "LISTEN")]
    listen: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// Whether the program answers.
    Live,
    /// Whether every pipeline has loaded its modules, reached its stores, and learnt its partitions.
    Ready,
}

pub(super) fn probe(arguments: &Arguments) -> anyhow::Result<Exit> {
    let path = match arguments.what {
        What::Live => "/livez",
        What::Ready => "/readyz",
    };
    let listen = &arguments.listen;
    let answer = ask(listen, path)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).with_context(|| format!("what listens at {listen} speaks no HTTP"))?;
    writeln!(io::stdout().lock(), "{}", if body.is_empty() { status } else { body.trim_end() })?;
    Ok(if status == "200" { Exit::Done } else { Exit::Failed })
}

/// The answer, head and body.
fn ask(listen: &str, path: &str) -> anyhow::Result<String> {
    let away = || format!("nobody answers at {listen}");
    if let Some(socket) = listen.strip_prefix("unix:") {
        let stream = UnixStream::connect(socket).with_context(away)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return exchange(stream, "localhost", path).with_context(away);
    }
    let address: SocketAddr = listen.parse().map_err(|_| {
        anyhow!(UsageError(format!("`{listen}` is no address: write `127.0.0.1:9400`, `[::1]:9400` or `unix:/path`")))
    })?;
    let address = reachable(address);
    let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(away)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, &address.to_string(), path).with_context(away)
}

/// One request; the server ends the connection behind its answer.
fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> anyhow::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
