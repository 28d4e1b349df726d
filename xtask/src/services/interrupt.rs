//! Ctrl-C: noted, so that servers are ended and their data removed before the program goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static NOTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on Ctrl-C (SIGINT, SIGTERM, SIGHUP) does not end this program but makes [`requested`] true; a second one
/// ends it at once, and the system then ends the servers.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn watch() -> anyhow::Result<()> {
    let noted = NOTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: what a signal does is done in the order of registration, and the first must not end it.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(noted)).context("cannot watch for Ctrl-C")?;
        flag::register(signal, Arc::clone(noted)).context("cannot watch for Ctrl-C")?;
    }
    Ok(())
}

/// Whether a signal came since [`watch`].
pub fn requested() -> bool {
    NOTED.get().is_some_and(|noted| noted.load(Ordering::Relaxed))
}
