//! `[sinks.NAME.redis]`.

use std::time::Duration;

use crate::config::block::Block;
use crate::config::text::{FilePath, Text};

/// `[sinks.NAME.redis]`: a cache in Redis or Valkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub url: Text,
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<FilePath>,
    /// The client's own certificate and its key, PEM.
    pub identity: Option<(FilePath, FilePath)>,
    /// What the keys of the ledger begin with.
    pub prefix: Text,
    /// How long to wait for a connection or an answer.
    pub timeout: Duration,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Redis> {
    let document = block.document();
    let url = block.text("url");
    let url = block.required("url", url, "give it, as `url = \"redis://localhost:6379\"`");
    if let Some(url) = url.as_ref()
        && !["redis://", "rediss://", "unix://"].iter().any(|scheme| url.value.starts_with(scheme))
    {
        // What stands there may hold a password.
        let remedy = "write `redis://host:6379`, `rediss://host:6379` for TLS, or `unix:///path`";
        document.problem(&url.place, "the address begins with no known scheme", remedy);
    }
    let ca = block.path("ca");
    let certificate = block.path("certificate");
    let key = block.path("key");
    if certificate.is_some() != key.is_some() {
        document.problem(&block.place(), "a certificate and its key belong together", "give both or neither");
    }
    if let Some(url) = url.as_ref()
        && let Some(file) = ca.as_ref().or(certificate.as_ref()).or(key.as_ref())
        && !url.value.starts_with("rediss://")
    {
        document.problem(&file.place, "the address is not one of TLS", "begin `url` with `rediss://`");
    }
    let prefix = block.text("prefix");
    if let Some(prefix) = prefix.as_ref().filter(|prefix| prefix.value.is_empty()) {
        document.problem(&prefix.place, "the prefix is empty", "give one that no entry begins with, as `tidegate:`");
    }
    let timeout = block.number("timeout_ms", &(100..=30_000)).unwrap_or(5000);
    block.finish("key");
    Some(Redis {
        url: url?.value,
        ca: ca.map(|path| path.value),
        identity: certificate.zip(key).map(|(certificate, key)| (certificate.value, key.value)),
        prefix: prefix.map_or_else(|| Text::plain("tidegate:"), |prefix| prefix.value),
        timeout: Duration::from_millis(timeout),
    })
}
