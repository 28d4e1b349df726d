//! SIGINT and SIGTERM: the first asks the pipelines to finish what is in flight, the second ends the program at once.

use std::io;
use std::sync::Arc;
use std::thread;

use tidegate::pipeline::Stops;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on, on a thread of its own, until the program ends.
///
/// # Errors
/// When the system refuses the handlers.
pub(super) fn listen(stops: Arc<Stops>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("tidegate-signals".into()).spawn(move || {
        runtime.block_on(async {
            for time in 0.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if time > 0 {
                    // What is being written is rolled back by its store; the next start goes on from there.
                    std::process::exit(1);
                }
                tracing::info!("stopping: what is in flight is finished; a second signal ends the program at once");
                stops.set();
            }
        });
    })?;
    Ok(())
}
