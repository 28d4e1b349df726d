//! The log, on standard error, and without the secrets of the configuration.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use tidegate::config::{Config, ConfigError, Secrets};
use tracing_subscriber::EnvFilter;

use super::exit;

/// Those of the configuration that this process has read.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// Begins the log.
///
/// # Errors
/// When the filter or the format is none.
pub(super) fn start(filter: Option<&str>, format: Option<&str>) -> anyhow::Result<()> {
    let set = |name| std::env::var(name).ok();
    let (log, log_format) = (set("TIDEGATE_LOG"), set("TIDEGATE_LOG_FORMAT"));
    let filter = filter.or(log.as_deref()).unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| exit::UsageError(format!("`{filter}` is no filter for the log: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines);
    match format.or(log_format.as_deref()).unwrap_or("text") {
        "text" => log.with_ansi(io::stderr().is_terminal()).init(),
        "json" => log.json().flatten_event(true).with_current_span(false).init(),
        other => {
            return Err(exit::UsageError(format!("`{other}` is no format of the log; write `text` or `json`")).into());
        }
    }
    Ok(())
}

/// Reads a configuration, whose secrets are in no line of the log from then on.
///
/// # Errors
/// As [`Config::load`].
pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let config = Config::load(path)?;
    // A process reads one configuration.
    let _ = SECRETS.set(config.secrets());
    Ok(config)
}

/// Standard error, to which each event is written as a whole.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut error = io::stderr().lock();
        match (SECRETS.get(), std::str::from_utf8(line)) {
            (Some(secrets), Ok(text)) => error.write_all(secrets.hide(text).as_bytes())?,
            _ => error.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
