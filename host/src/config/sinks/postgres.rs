//! `[sinks.NAME.postgres]`.

use std::time::Duration;

use crate::config::block::Block;
use crate::config::text::{FilePath, Text};

/// `[sinks.NAME.postgres]`: tables in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Where it is.
    pub url: Text,
    /// Where tables are that are named without a schema.
    pub schema: Text,
    /// Where the ledger is.
    pub ledger_schema: Text,
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<FilePath>,
    /// The client's own certificate, PEM.
    pub certificate: Option<FilePath>,
    /// Its key, PEM.
    pub key: Option<FilePath>,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Postgres> {
    let document = block.document();
    let place = block.place();
    let url = block.text("url");
    let url = block.required("url", url, "give it, as `url = \"postgres://user@localhost/database\"`");
    let schema = schema(&mut block, "schema", "public");
    let ledger_schema = self::schema(&mut block, "ledger_schema", "tidegate");
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(|key| block.path(key).map(|path| path.value));
    if certificate.is_some() != key.is_some() {
        document.problem(&place, "a certificate and its key belong together", "give both or neither");
    }
    let timeout = block.number("statement_timeout_ms", &(100..=3_600_000)).unwrap_or(30_000);
    block.finish("key");
    let statement_timeout = Duration::from_millis(timeout);
    Some(Postgres { url: url?.value, schema, ledger_schema, ca, certificate, key, statement_timeout })
}

fn schema(block: &mut Block<'_>, key: &str, default: &str) -> Text {
    let Some(schema) = block.text(key) else { return Text::plain(default) };
    let name = &schema.value;
    if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
        let cause = format!("`{}` is no name of a schema", name.shown());
        block.document().problem(&schema.place, cause, "give a name of 1 to 63 bytes");
    }
    schema.value
}
