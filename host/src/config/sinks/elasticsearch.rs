//! `[sinks.NAME.elasticsearch]`.

use crate::config::block::{Block, Placed};
use crate::config::text::{FilePath, Text};

/// `[sinks.NAME.elasticsearch]`: documents in Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elasticsearch {
    /// The addresses of one cluster.
    pub urls: Vec<Text>,
    /// Who the client says it is; none where the cluster asks for nothing.
    pub credentials: Option<ElasticsearchCredentials>,
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<FilePath>,
    /// What the names of indexes begin with; empty for nothing.
    pub index_prefix: Text,
    /// The alias of the ledger's index.
    pub ledger_index: Text,
    /// Requests are cut at this many bytes.
    pub max_request_bytes: usize,
    /// Whether requests are compressed.
    pub compress: bool,
    /// How long a request may take.
    pub timeout_ms: u64,
}

/// `username` and `password`, or `api_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElasticsearchCredentials {
    /// A user and a password.
    Password {
        /// The user.
        username: Text,
        /// The password.
        password: Text,
    },
    /// An API key.
    ApiKey(Text),
}

pub(super) fn read(mut block: Block<'_>) -> Option<Elasticsearch> {
    let document = block.document();
    let urls = read_urls(&mut block);
    let urls = block.required("url", urls, "give it, as `url = \"http://localhost:9200\"`");
    let credentials = read_credentials(&mut block);
    let ca = block.path("ca");
    if let Some(ca) = ca.as_ref().filter(|ca| !ca.value.is_file()) {
        let cause = format!("there is no file `{}`", ca.value.shown());
        document.problem(&ca.place, cause, "correct the path, or leave the key out");
    }
    let index_prefix = read_name(&mut block, "index_prefix");
    let ledger_index = read_name(&mut block, "ledger_index");
    if let Some(index) = ledger_index.as_ref().filter(|index| index.value.is_empty()) {
        document.problem(&index.place, "it is empty", "name it, as `ledger_index = \"tidegate-ledger\"`");
    }
    let max_request_bytes = block.number("max_request_bytes", &(1024..=95 << 20));
    let compress = block.boolean("compress");
    let timeout_ms = block.number("timeout_ms", &(100..=600_000));
    block.finish("key");
    Some(Elasticsearch {
        urls: urls?,
        credentials,
        ca: ca.map(|ca| ca.value),
        index_prefix: index_prefix.map(|prefix| prefix.value).unwrap_or_default(),
        ledger_index: ledger_index.map_or_else(|| Text::plain("tidegate-ledger"), |index| index.value),
        max_request_bytes: max_request_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(5 << 20),
        compress: compress.unwrap_or(false),
        timeout_ms: timeout_ms.unwrap_or(30_000),
    })
}

/// One address, or a list.
fn read_urls(block: &mut Block<'_>) -> Option<Vec<Text>> {
    let document = block.document();
    let (place, value) = block.raw("url")?;
    let urls = if value.is_array() { block.texts("url")? } else { vec![block.text("url")?] };
    if urls.is_empty() {
        document.problem(&place, "the list is empty", "give at least one address");
    }
    for Placed { value, place } in &urls {
        let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
        match rest {
            None | Some("") => {
                // Not shown: a password may stand in it.
                document.problem(
                    place,
                    "the address is not one of http or https",
                    "write it as `http://localhost:9200`",
                );
            }
            Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => {
                document.problem(place, "the address holds a user", "give `username` and `password` instead");
            }
            Some(_) => {}
        }
    }
    Some(urls.into_iter().map(|url| url.value).collect())
}

fn read_credentials(block: &mut Block<'_>) -> Option<ElasticsearchCredentials> {
    let document = block.document();
    let (username, password, key) = (block.text("username"), block.text("password"), block.text("api_key"));
    match (username, password, key) {
        (None, None, None) => None,
        (Some(username), Some(password), None) => {
            Some(ElasticsearchCredentials::Password { username: username.value, password: password.value })
        }
        (None, None, Some(key)) => Some(ElasticsearchCredentials::ApiKey(key.value)),
        (Some(lone), None, None) | (None, Some(lone), None) => {
            document.problem(&lone.place, "`username` and `password` belong together", "give both or neither");
            None
        }
        (_, _, Some(key)) => {
            let remedy = "give `api_key`, or `username` and `password`";
            document.problem(&key.place, "there are two ways to say who the client is", remedy);
            None
        }
    }
}

/// A part of an index's name.
fn read_name(block: &mut Block<'_>, key: &str) -> Option<Placed<Text>> {
    let name = block.text(key)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    let begins = name.value.bytes().next().is_none_or(|byte| !b"_.-".contains(&byte));
    if !name.value.bytes().all(plain) || !begins || name.value.len() > 128 {
        let cause = format!("`{}` cannot begin the name of an index", name.value.shown());
        let remedy = "use at most 128 small letters, digits, `_`, `.` and `-`, a letter or digit first";
        block.document().problem(&name.place, cause, remedy);
    }
    Some(name)
}
