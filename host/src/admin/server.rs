//! Listens and serves, on a thread and a runtime of its own: neither a busy pipeline nor a slow client makes the other
//! wait.
//!
//! A connection carries one request and lasts for a bounded time, all of it: head, body, handling, answer. There is a
//! bounded number of them; `places.rs` says who has to leave when there are too many.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::State;
use super::guard::Peer;
use super::places::{Place, Places};
use super::quota::Quota;
use super::routes::router;
use super::samples;
use crate::config::AdminAddress;
use crate::registry::Registry;

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// What a head may hold.
const HEAD_BYTES: usize = 16 << 10;
/// How long to wait after the system refused a connection.
const REST: Duration = Duration::from_millis(100);

/// A server that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    state: Arc<State>,
    /// Ends it when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: String,
    socket: Option<PathBuf>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Listens and serves from now on.
    ///
    /// # Errors
    /// When the address cannot be listened on; the text says what to do.
    pub(super) fn start(listen: &AdminAddress, state: Arc<State>, timeout: Duration) -> anyhow::Result<Self> {
        let router = router(state.clone());
        let (sampled, counted) = (state.clone(), state.clone());
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
        let (listener, address, socket) = {
            let _inside = runtime.enter();
            bind(&runtime, listen)?
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, router, timeout, &counted.quotas.connections) => {}
                    () = samples::keep(sampled) => {}
                    () = counted.quotas.keep() => {}
                    _ = stopped => {}
                }
            });
            counted.quotas.begin_anew();
            // What still reads dead letters is left behind.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("tidegate-admin".into()).spawn(serve)?;
        Ok(Self { state, stop: Some(stop), thread: Some(thread), address, socket })
    }

    /// Answers for these modules too, from now on.
    pub fn answer_for(&self, registry: Registry) {
        // There is one registry a run.
        let _ = self.state.registry.set(registry);
    }

    /// Where it listens: `127.0.0.1:9400` or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

fn bind(runtime: &Runtime, listen: &AdminAddress) -> anyhow::Result<(Listener, String, Option<PathBuf>)> {
    match listen {
        AdminAddress::Tcp(address) => {
            let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| {
                format!("cannot listen on {address} for [admin]: free it, or give each program another `listen`")
            })?;
            let address = listener.local_addr()?.to_string();
            Ok((Listener::Tcp(listener), address, None))
        }
        AdminAddress::Unix(path) => {
            let shown = path.shown();
            let listener = bind_socket(path.as_path()).with_context(|| {
                format!(
                    "cannot listen on the socket {shown} for [admin]: free it, or give each program another `listen`"
                )
            })?;
            Ok((Listener::Unix(listener), format!("unix:{shown}"), Some(path.as_path().to_path_buf())))
        }
    }
}

/// Takes a path for a socket that this user alone can reach. One that a killed program has left is replaced.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
        }
    }
    // Under another name until its mode is right: nobody gets in between.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

async fn accept(listener: Listener, router: Router, timeout: Duration, failed: &Quota) {
    let places = Places::default();
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                let peer = Peer::Tcp(address);
                let place = places.enter(peer.neighbour());
                drop(tokio::spawn(serve(stream, peer, place, router.clone(), timeout)));
            }),
            Listener::Unix(listener) => listener.accept().await.and_then(|(stream, _)| {
                let credentials = stream.peer_cred()?;
                let peer = Peer::Unix(credentials.uid(), credentials.pid());
                let place = places.enter(peer.neighbour());
                drop(tokio::spawn(serve(stream, peer, place, router.clone(), timeout)));
                Ok(())
            }),
        };
        if let Err(error) = accepted {
            // Too many open files, or the client was gone before it was let in.
            if failed.allows() {
                tracing::debug!(%error, "a connection was not accepted");
            }
            tokio::time::sleep(REST).await;
        }
    }
}

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    place: Place,
    router: Router,
    timeout: Duration,
) {
    let place = Arc::new(place);
    let service = TowerToHyperService::new(router.layer(Extension(peer)).layer(Extension(place.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD.min(timeout))
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = tokio::time::timeout(timeout, connection) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "a connection failed"),
            Err(_) => tracing::trace!("a connection took longer than {timeout:?}"),
        },
        () = place.lost() => tracing::trace!("a connection without a request made room for another one"),
    }
}
