//! SIGINT and SIGTERM: the first asks the pipelines to finish what is in flight, for which they have so long; the second
//! ends the program at once.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidegate::pipeline::Stops;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;

/// Listens from now on, on a thread of its own, until the program ends.
///
/// # Errors
/// When the system refuses the handlers.
pub(super) fn listen(stops: Arc<Stops>, deadline: Duration) -> io::Result<()> {
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
            // Either way what is being written is rolled back by its store; the next start goes on from there.
            match tokio::time::timeout(deadline, signalled()).await {
                Ok(()) => std::process::exit(1),
                Err(_) => {
                    tracing::error!(
                        "what is in flight was not finished within {deadline:?}: ending with what is durable; the next \
                         start goes on from there"
                    );
                    std::process::exit(Exit::Late.code());
                }
            }
        });
    })?;
    Ok(())
}
