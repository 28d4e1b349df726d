//! Which sinks are one store, as far as their addresses tell. `tidegate check --connect` asks the servers.

use std::path::absolute;

use super::kafka::KafkaClient;
use super::sinks::Sink;
use crate::command::Port;
use crate::command::reserved::Spelling;

/// A store by its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    kind: &'static str,
    addresses: Vec<String>,
    /// The database among those of a server.
    part: String,
}

impl Place {
    /// Whether both are one store: an address that they share is enough.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.part) == (other.kind, &other.part)
            && self.addresses.iter().any(|address| other.addresses.contains(address))
    }

    /// A Kafka cluster.
    pub(super) fn of_cluster(client: &KafkaClient) -> Self {
        let brokers = client.brokers.split(',').filter(|broker| !broker.trim().is_empty());
        let without_protocol = |broker: &str| broker.rsplit("//").next().unwrap_or_default().trim().to_owned();
        let addresses = brokers.map(|broker| host_and_port(&without_protocol(broker), "9092")).collect();
        Self { kind: "kafka", addresses, part: String::new() }
    }
}

/// The store behind a port of a sink, and how names are spelt there. Sinks that share a SQLite file keep their cache
/// entries, documents and messages apart by their own names, and their tables by prefix.
pub(super) fn of(name: &str, sink: &Sink, port: Port) -> (Place, Spelling) {
    let alone = || Place { kind: "sink", addresses: vec![name.to_owned()], part: String::new() };
    match sink {
        Sink::Sqlite(sqlite) if port == Port::Tables => {
            let file = absolute(sqlite.path.as_path()).unwrap_or_else(|_| sqlite.path.to_path_buf());
            // One file by two ways is one file, where it is there already.
            let file = file.canonicalize().unwrap_or(file);
            let addresses = vec![file.display().to_string()];
            let place = Place { kind: "sqlite", addresses, part: String::new() };
            (place, Spelling::Folded(sqlite.table_prefix.to_string()))
        }
        Sink::Sqlite(_) | Sink::Null => (alone(), Spelling::Exact),
        Sink::Redis(redis) => (of_redis(&redis.url), Spelling::Exact),
        Sink::Postgres(postgres) => (of_postgres(&postgres.url), Spelling::Schema(postgres.schema.to_string())),
        Sink::Elasticsearch(store) => {
            let address = |url: &str| {
                let default = if url.starts_with("https") { "443" } else { "80" };
                host_and_port(Url::new(url).authority, default)
            };
            let addresses = store.urls.iter().map(|url| address(url)).collect();
            let place = Place { kind: "elasticsearch", addresses, part: String::new() };
            (place, Spelling::Behind(store.index_prefix.to_string()))
        }
        Sink::Kafka(kafka) => (Place::of_cluster(&kafka.client), Spelling::Exact),
    }
}

fn of_redis(url: &str) -> Place {
    let Url { scheme, authority, path, query } = Url::new(url);
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (address, database) = match scheme {
        "unix" | "redis+unix" => (format!("{authority}{path}"), asked("db")),
        _ => (host_and_port(authority, "6379"), asked("db").or(path.strip_prefix('/'))),
    };
    let number = database.and_then(|database| database.parse::<u32>().ok()).unwrap_or_default();
    Place { kind: "redis", addresses: vec![address], part: number.to_string() }
}

fn of_postgres(url: &str) -> Place {
    let Url { authority, path, query, .. } = Url::new(url);
    // What is no URL is `key=value …`.
    let keys = if url.contains("://") { query } else { url };
    let asked = |name: &str| {
        keys.split(['&', ' '])
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(|it| it.trim_matches('\''))
    };
    let port = asked("port").unwrap_or("5432");
    let hosts = if authority.is_empty() || !url.contains("://") {
        asked("host").or(asked("hostaddr")).unwrap_or_default()
    } else {
        authority
    };
    let addresses = hosts.split(',').map(|host| host_and_port(&host.replace("%2F", "/"), port)).collect();
    let database = path.strip_prefix('/').filter(|path| url.contains("://") && !path.is_empty()).or(asked("dbname"));
    let database = database.or(asked("user")).or(Url::user(url)).unwrap_or_default();
    Place { kind: "postgres", addresses, part: database.to_owned() }
}

/// The parts of a URL that say where something is.
struct Url<'u> {
    scheme: &'u str,
    authority: &'u str,
    path: &'u str,
    query: &'u str,
}

impl<'u> Url<'u> {
    fn new(url: &'u str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        Self { scheme, authority, path, query }
    }

    fn user(url: &str) -> Option<&str> {
        let (_, rest) = url.split_once("://")?;
        let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
        user.split(':').next()
    }
}

/// An address in one spelling: small letters, the port always, and the machine itself by one name.
fn host_and_port(address: &str, port: &str) -> String {
    let address = address.to_ascii_lowercase();
    if address.starts_with('/') {
        return format!("{address}:{port}");
    }
    let bare = address.matches(':').count() != 1 && !address.contains("]:");
    let (host, port) =
        if bare { (address.as_str(), port) } else { address.rsplit_once(':').unwrap_or((&address, port)) };
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
    let host = if matches!(host, "localhost" | "::1" | "") || host.starts_with("127.") { "localhost" } else { host };
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_one_store_by_any_url() {
        let same = |one: &str, other: &str| of_redis(one).is_same(&of_redis(other));
        assert!(
            same("redis://localhost", "redis://u:p%40x@127.0.0.1:6379/0") && same("redis://H:1/2", "rediss://h:1?db=2")
        );
        assert!(same("unix:///r.sock?db=1&pass=x", "unix:///r.sock?db=1"));
        assert!(
            !same("redis://h/1", "redis://h/2")
                && !same("redis://h", "redis://i")
                && !same("redis://h:1", "redis://h:2")
        );
        assert!(same("redis://[::1]:6379", "redis://localhost"));

        let same = |one: &str, other: &str| of_postgres(one).is_same(&of_postgres(other));
        assert!(same("postgres://u:p@a,b:5433/db", "postgres://x@b:5433/db?sslmode=require"));
        assert!(
            same("host=localhost user=u dbname=db", "postgresql://127.0.0.1/db")
                && same("postgres://u@h", "postgres://h/u")
        );
        assert!(same("postgres://u@%2Frun%2Fpg/db", "host=/run/pg dbname=db user=u"));
        assert!(!same("postgres://h/a", "postgres://h/b") && !same("postgres://h:1/a", "postgres://h:2/a"));
    }
}
