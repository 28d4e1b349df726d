//! Free TCP ports on loopback.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::bail;

/// Where the search goes round. It lies below the ports that systems give to outgoing connections (from 32768 on): a
/// server that is away for a while would lose such a port to a client, or a client that dials it could even reach
/// itself.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// Where the next search begins: at random, since other processes search too.
static NEXT: OnceLock<AtomicU16> = OnceLock::new();

/// Finds `count` ports that nothing listens on. No port is given out twice by one process until all were.
///
/// # Errors
/// When there are not as many.
pub(super) fn free(count: usize) -> anyhow::Result<Vec<u16>> {
    let next = NEXT.get_or_init(|| {
        let random = RandomState::new().build_hasher().finish() % u64::from(COUNT);
        AtomicU16::new(u16::try_from(random).unwrap_or(0))
    });
    let step = |place: u16| Some((place + 1) % COUNT);
    let mut ports = Vec::new();
    for _ in 0..COUNT {
        if ports.len() == count {
            return Ok(ports);
        }
        let (Ok(place) | Err(place)) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let port = FIRST + place;
        if is_free(port) {
            ports.push(port);
        }
    }
    bail!("127.0.0.1 has no {count} free ports from {FIRST} to {}: end what listens there", FIRST + COUNT - 1)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, TcpListener};

    use super::{COUNT, FIRST, free, is_free};

    #[test]
    fn a_port_can_be_listened_on_and_is_given_out_once() {
        let mut ports = free(40).unwrap();
        ports.extend(free(40).unwrap());
        for port in &ports {
            assert!((FIRST..FIRST + COUNT).contains(port), "{port}");
            TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap();
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 80);
    }

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(port));
    }
}
