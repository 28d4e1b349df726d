//! SIGINT and SIGTERM: the first asks the pipelines to finish what is in flight, for which they have so long; the second
//! ends the program at once.
//!
//! A signal within a second of the first is taken for the same one: `timeout` sends its signal to the program and to the
//! program's process group, so that it arrives twice.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::pipeline::Stops;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;

/// A signal this soon after the first one is the same one.
const REPEATED_WITHIN: Duration = Duration::from_secs(1);

/// Listens from now on, on a thread of its own, until the program ends. `before_exit` is called if the program
/// exits without waiting for its pipelines.
///
/// # Errors
/// When the system refuses the handlers.
pub(super) fn listen(
    stops: Arc<Stops>,
    deadline: Duration,
    before_exit: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("tidegate-signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut signalled = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            signalled().await;
            tracing::info!(
                "stopping: what is in flight is finished within {deadline:?}; a second signal ends the program at once"
            );
            stops.set();
            let first = Instant::now();
            let second = async {
                signalled().await;
                while first.elapsed() < REPEATED_WITHIN {
                    signalled().await;
                }
            };
            // Either way what is being written is rolled back by its store; the next start goes on from there.
            let exit = match tokio::time::timeout(deadline, second).await {
                Ok(()) => {
                    tracing::warn!(
                        "a second signal: ending at once with what is durable; the next start goes on from there"
                    );
                    Exit::Failed
                }
                Err(_) => {
                    tracing::error!(
                        "what is in flight was not finished within {deadline:?}: ending with what is durable; the next \
                         start goes on from there"
                    );
                    Exit::Late
                }
            };
            before_exit();
            std::process::exit(exit.code());
        });
    })?;
    Ok(())
}
