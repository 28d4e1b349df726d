//! Opens a connection: the address, TLS, and the settings of the session.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Problem;
use super::session::Session;

/// How long to try for a connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may stay unacknowledged by the network. Like the two below, it is shorter than the time after
/// which Kafka gives a silent consumer's partitions to another.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a transaction may stay idle before the server ends it: a process that stands still must not keep its
/// successor from the ledger.
const IDLE_IN_TRANSACTION_MS: u64 = 10_000;
/// How long to wait for a lock.
const LOCK_TIMEOUT_MS: u64 = 5_000;
/// How much longer than the server's own timeout to wait for an answer.
const GRACE: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    statement_timeout: Duration,
    /// For messages: hosts, ports and database, no secret.
    pub(super) shown: String,
}

/// The files for TLS, PEM.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
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

    pub(super) async fn connect(&self) -> Result<Session, Problem> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let session = Session::new(client, self.statement_timeout + GRACE);
        // Times without a zone are Debezium's, in UTC. Each statement is planned for the table as it is: a plan made
        // when the table was empty would read all of it for each delete.
        session
            .run(&format!(
                "SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; SET lock_timeout = {LOCK_TIMEOUT_MS}; \
                 SET statement_timeout = {}; SET timezone = 'UTC'; SET plan_cache_mode = force_custom_plan",
                self.statement_timeout.as_millis()
            ))
            .await?;
        Ok(session)
    }
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

fn tls(files: &TlsFiles, verified: bool) -> Result<ClientConfig, Problem> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
            }
        }
        None if verified => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        None => {}
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Problem::Stop(format!("TLS: {error}")))?;
    let builder = if verified {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| {
            Problem::Stop(format!("TLS: no certificates to trust ({error}): name a file of them as `ca`"))
        })?;
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    };
    match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error.to_string()))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate, &error.to_string()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, &error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, cause: &str) -> Problem {
    Problem::Stop(format!("{} cannot be used for TLS: {cause}: give a readable PEM file", path.display()))
}

/// Takes the certificate of any server: what `sslmode=prefer` is, which would do without TLS as well.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
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
