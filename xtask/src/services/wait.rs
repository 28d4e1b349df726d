//! Waiting for a condition, and the one condition that several servers share: an answer over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::interrupt;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until the condition holds. Answers whether it did before the time was over.
///
/// # Errors
/// When the condition itself fails, and after Ctrl-C.
pub(super) fn until(limit: Duration, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(true);
        }
        if interrupt::requested() {
            bail!("interrupted");
        }
        if start.elapsed() > limit {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a GET of this path from 127.0.0.1 is answered by 200 within two seconds.
pub(super) fn answers(port: u16, path: &str) -> bool {
    let patience = Duration::from_secs(2);
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
