//! Opens a connection: the address, and the settings of the session.
//!
//! The driver bounds the connection of TCP alone. A server that accepts it and then says nothing (a process that stands
//! still, a balancer whose server is gone, a pooler that is paused) would be waited for without an end. So each address
//! is tried by itself, within a time for all of it, and the next one after it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Problem;
use super::session::Session;
use super::tls::{TlsFiles, tls};

/// How long to try for a connection to one address, or for the addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address may take until its session can be used: the connection, TLS, and who we are.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sent data may stay unacknowledged by the network. Like the two below, it is shorter than the time after
/// which Kafka gives a silent consumer's partitions to another.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a transaction may stay idle before the server ends it: a process that stands still must not keep its
/// successor from the ledger.
const IDLE_IN_TRANSACTION_MS: u128 = 10_000;
/// How long to wait for a lock.
const LOCK_TIMEOUT_MS: u128 = 5_000;
/// How much longer than the server's own timeout to wait for an answer.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    statement_timeout: Duration,
    /// For messages: hosts, ports and database, no secret.
    pub(super) shown: String,
}

impl Address {
    pub(super) fn new(url: &str, files: &TlsFiles, statement_timeout: Duration) -> Result<Self, Problem> {
        // The driver knows no mode beyond `require`; here that one verifies the server in full already.
        let known = url.replace("sslmode=verify-full", "sslmode=require");
        if known.contains("sslmode=verify-ca") {
            return Err(Problem::Stop("sslmode=verify-ca is not known: write sslmode=verify-full".into()));
        }
        // The cause is left out: it may quote a part of the password.
        let mut config: Config = known.parse().map_err(|_| {
            Problem::Stop(
                "the url cannot be read: write it as postgres://user:password@host:5432/database?sslmode=require, with \
                 percent-encoding for what is special in a password"
                    .into(),
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Problem::Stop("the url names no host: write postgres://user@host:5432/database".into()));
        }
        let (hosts, addresses, ports) =
            (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
        let differ = hosts > 0 && addresses > 0 && hosts != addresses;
        if differ || (ports > 1 && ports != hosts.max(addresses)) {
            return Err(Problem::Stop(
                "the url names another number of ports or of `hostaddr` than of hosts: write one port for all, or one for \
                 each"
                    .into(),
            ));
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(TCP_USER_TIMEOUT);
        config.keepalives_idle(TCP_USER_TIMEOUT).keepalives_interval(GRACE).keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("tidegate");
        }
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) && !config.get_hosts().is_empty() {
            config.ssl_mode(SslMode::Disable);
        }
        let verified = config.get_ssl_mode() == SslMode::Require || files.ca.is_some();
        let tls = MakeRustlsConnect::new(tls(files, verified)?);
        let shown = shown(&config);
        Ok(Self { config, tls, statement_timeout, shown })
    }

    /// A session at the first address that gives one.
    pub(super) async fn connect(&self) -> Result<Session, Problem> {
        let (each, mut failed) = self.each().await;
        for (address, config) in each {
            let problem = match timeout(SESSION_TIMEOUT, self.open(&config)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(problem)) => problem,
                Err(_) => Problem::Retry(format!(
                    "no session within {} s: does the server stand still, or whatever is before it?",
                    SESSION_TIMEOUT.as_secs()
                )),
            };
            failed.push((address, problem));
        }
        Err(all_failed(failed))
    }

    async fn open(&self, config: &Config) -> Result<Session, Problem> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let limits = [
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS),
            ("lock_timeout", LOCK_TIMEOUT_MS),
            ("statement_timeout", self.statement_timeout.as_millis()),
        ];
        let session = Session::new(client, self.statement_timeout + GRACE, &limits);
        // Times without a zone are Debezium's, in UTC. Each statement is planned for the table as it is: a plan made
        // when the table was empty would read all of it for each delete.
        session
            .run(&format!(
                "{}SET timezone = 'UTC'; SET plan_cache_mode = force_custom_plan",
                limits.map(|(name, ms)| format!("SET {name} = {ms}; ")).concat()
            ))
            .await?;
        Ok(session)
    }

    /// Every address, in the order in which they are to be tried: how to call it in messages, and how to connect to it
    /// alone. Also the hosts whose names lead nowhere.
    async fn each(&self) -> (Vec<(String, Config)>, Vec<(String, Problem)>) {
        let Self { config, .. } = self;
        let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
        let mut each = Vec::new();
        let mut unknown = Vec::new();
        for place in 0..hosts.len().max(addresses.len()) {
            let ports = config.get_ports();
            let port = ports.get(place).or_else(|| ports.first()).copied().unwrap_or(5432);
            let (host, address) = (hosts.get(place), addresses.get(place).copied());
            let found = match (host, address) {
                (Some(Host::Tcp(name)), None) => match resolved(name, port).await {
                    Ok(found) => found.into_iter().map(Some).collect(),
                    Err(problem) => {
                        unknown.push((format!("{name}:{port}"), problem));
                        continue;
                    }
                },
                _ => vec![address],
            };
            for address in found {
                let shown = match (host, address) {
                    (Some(Host::Unix(path)), _) => format!("{}:{port}", path.display()),
                    (Some(Host::Tcp(name)), Some(address)) if *name != address.to_string() => {
                        format!("{name}:{port} ({address})")
                    }
                    (_, Some(address)) => format!("{address}:{port}"),
                    (Some(Host::Tcp(name)), None) => format!("{name}:{port}"),
                    (None, None) => String::new(),
                };
                each.push((shown, alone(config, host, address, port)));
            }
        }
        if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            // Without a source of randomness they are tried in the order given.
            each.sort_by_cached_key(|_| getrandom::u32().unwrap_or_default());
        }
        (each, unknown)
    }
}

/// Why no address gave a session. As long as one of them may come back, so may the store.
fn all_failed(mut failed: Vec<(String, Problem)>) -> Problem {
    if failed.len() <= 1 {
        let only = failed.pop().map(|(_, problem)| problem);
        return only.unwrap_or_else(|| Problem::Stop("the url names no host".into()));
    }
    let may_pass = failed.iter().any(|(_, problem)| problem.may_pass());
    let told: Vec<_> = failed.into_iter().map(|(address, problem)| format!("{address}: {}", problem.text())).collect();
    let told = told.join("; ");
    if may_pass { Problem::Retry(told) } else { Problem::Stop(told) }
}

/// The addresses of a name.
async fn resolved(name: &str, port: u16) -> Result<Vec<IpAddr>, Problem> {
    let unknown = |cause: String| Problem::Retry(format!("{name} leads to no address: {cause}: is `url` right?"));
    match timeout(CONNECT_TIMEOUT, lookup_host((name, port))).await {
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.map(|address| address.ip()).collect();
            found.dedup();
            if found.is_empty() { Err(unknown("it has none".into())) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(unknown(error.to_string())),
        Err(_) => Err(unknown(format!("nobody knew within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// The same for one host alone, under an address that is known. The driver takes no host out of a configuration.
fn alone(config: &Config, host: Option<&Host>, address: Option<IpAddr>, port: u16) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = config.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(time) = config.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    one.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    one.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    one.load_balance_hosts(config.get_load_balance_hosts());
    match host {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = address {
        one.hostaddr(address);
    }
    one.port(port);
    one
}

/// Hosts and database.
fn shown(config: &Config) -> String {
    let name = |host: &Host| match host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let ports = config.get_ports();
    let hosts: Vec<_> = config.get_hosts().iter().map(name).collect();
    let hosts = if hosts.is_empty() { config.get_hostaddrs().iter().map(ToString::to_string).collect() } else { hosts };
    let with_port = |(at, host): (usize, &String)| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        format!("{host}:{port}")
    };
    let hosts = hosts.iter().enumerate().map(with_port).collect::<Vec<_>>().join(",");
    let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default();
    format!("PostgreSQL {hosts}/{database}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use super::*;

    fn address(url: &str) -> Result<Address, Problem> {
        Address::new(url, &TlsFiles::default(), Duration::from_secs(1))
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let Ok(both) = address("postgres://u:secret@one:1,two/db?sslmode=verify-full") else { panic!("not read") };
        assert_eq!(both.shown, "PostgreSQL one:1,two:5432/db");
        let Ok(socket) = address("postgres://u:secret@%2Frun%2Fpostgresql/db") else { panic!("not read") };
        assert_eq!(socket.shown, "PostgreSQL /run/postgresql:5432/db");
    }

    #[test]
    fn what_is_sent_into_a_network_that_swallows_it_is_given_up_before_a_group_gives_the_partition_away() {
        // Kafka's own default of session.timeout.ms.
        let session = Duration::from_secs(45);
        let Ok(address) = address("postgres://host/db") else { panic!("not read") };
        assert!(address.config.get_tcp_user_timeout().is_some_and(|time| *time < session));
        assert!(address.config.get_keepalives());
        let silent =
            address.config.get_keepalives_idle() + GRACE * address.config.get_keepalives_retries().unwrap_or(9);
        assert!(silent < session, "{silent:?}");
    }

    #[test]
    fn a_host_by_itself_keeps_every_setting_of_the_url() {
        let settings = "user=u&password=p&dbname=d&options=-c%20geqo%3Doff&application_name=a&sslmode=require&connect_timeout=3&\
                        tcp_user_timeout=4&keepalives=1&keepalives_idle=5&keepalives_interval=6&keepalives_retries=7&\
                        target_session_attrs=read-write&channel_binding=require&load_balance_hosts=random";
        let config = |hosts: &str| format!("postgres://{hosts}?{settings}").parse::<Config>().unwrap();
        let both = config("one:1,two:2");
        let host = Host::Tcp("two".into());
        let mut expected = config("two:2");
        assert_eq!(alone(&both, Some(&host), None, 2), expected);
        expected.hostaddr([10, 0, 0, 1].into());
        assert_eq!(alone(&both, Some(&host), Some([10, 0, 0, 1].into()), 2), expected);
    }

    #[test]
    fn an_address_that_cannot_be_read_is_told_without_its_secrets() {
        for url in ["postgres://u:se/cret@host:x/db", "http://u:secret@host"] {
            let Err(Problem::Stop(told)) = address(url) else { panic!("{url} was read") };
            assert!(!told.contains("cret") && told.contains("url"), "{told}");
        }
    }

    #[test]
    fn a_file_for_tls_that_is_none_is_named() {
        let files = TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() };
        let Err(Problem::Stop(told)) = Address::new("postgres://host/db", &files, GRACE) else { panic!("taken") };
        assert!(told.contains("/nowhere/ca.pem"), "{told}");
    }
}
