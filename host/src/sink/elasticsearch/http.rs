//! Requests and answers: addresses, credentials, TLS, compression.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Url};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::error::{Cause, failure};
use super::{Credentials, Options};
use crate::sink::{SinkError, blocking};

/// Bodies below this are sent as they are.
const WORTH_COMPRESSING: usize = 1024;

/// The connection to one cluster.
pub(super) struct Http {
    client: Client,
    urls: Vec<Url>,
    /// The address that answered last.
    current: AtomicUsize,
    /// Whether any answer has come.
    answered: AtomicBool,
    authorization: Option<HeaderValue>,
    compress: bool,
}

/// An answer, of whatever status.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn cause(&self) -> Cause {
        Cause::of_body(&self.body)
    }

    /// The body of a success; anything else is a failure of what was asked.
    pub(super) fn json(&self, asked: &str) -> Result<Value, SinkError> {
        if !self.is_success() {
            return Err(failure(asked, self));
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            SinkError::Stop(format!(
                "{asked}: the answer is not JSON ({e}): give the address of Elasticsearch or OpenSearch itself"
            ))
        })
    }
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self, SinkError> {
        let stop = |cause: String| SinkError::Stop(cause);
        let mut urls = Vec::new();
        for url in &options.urls {
            let parsed: Url = url.parse().map_err(|e| stop(format!("an address is no URL ({e}): correct it")))?;
            if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
                return Err(stop("an address is no URL of http or https: write it as http://localhost:9200".into()));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(stop(
                    "an address holds a user or a password, which would show in logs: use username and password".into(),
                ));
            }
            urls.push(parsed);
        }
        if urls.is_empty() {
            return Err(stop("no address is given: name at least one".into()));
        }
        let timeout = Duration::from_millis(options.timeout_ms);
        let client = Client::builder()
            .tls_backend_preconfigured(tls(options)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout)
            .build()
            .map_err(|e| stop(format!("the HTTP client cannot be made: {}", chain(&e))))?;
        let authorization = options.credentials.as_ref().map(authorization).transpose()?;
        let (current, answered) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { client, urls, current, answered, authorization, compress: options.compress })
    }

    pub(super) async fn get(&self, path: &[&str], query: &str) -> Result<Reply, SinkError> {
        self.send(Method::GET, path, query, "application/json", Vec::new()).await
    }

    pub(super) async fn put(&self, path: &[&str], query: &str, body: &Value) -> Result<Reply, SinkError> {
        self.send(Method::PUT, path, query, "application/json", body.to_string().into_bytes()).await
    }

    pub(super) async fn delete(&self, path: &[&str], query: &str) -> Result<Reply, SinkError> {
        self.send(Method::DELETE, path, query, "application/json", Vec::new()).await
    }

    pub(super) async fn post(&self, path: &[&str], query: &str, body: Vec<u8>) -> Result<Reply, SinkError> {
        let kind = if path == ["_bulk"] { "application/x-ndjson" } else { "application/json" };
        self.send(Method::POST, path, query, kind, body).await
    }

    /// Asks the address that answered last, and the others in turn when no connection can be made. What was sent may
    /// have been executed whenever an error comes back.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<Reply, SinkError> {
        let (mut body, compressed) = self.pack(body)?;
        let mut error = None;
        for left in (0..self.urls.len()).rev() {
            let at = self.current.load(Ordering::Relaxed);
            let base = &self.urls[at % self.urls.len()];
            let mut url = base.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(path);
            }
            url.set_query((!query.is_empty()).then_some(query));
            let mut request = self.client.request(method.clone(), url).header(CONTENT_TYPE, kind);
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            if compressed {
                request = request.header(CONTENT_ENCODING, "gzip");
            }
            if !body.is_empty() {
                request = request.body(if left == 0 { std::mem::take(&mut body) } else { body.clone() });
            }
            match exchange(request).await {
                Ok(reply) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(e) => {
                    // Another address may do better next time, in any case.
                    self.current.store((at + 1) % self.urls.len(), Ordering::Relaxed);
                    let again = e.is_connect();
                    error = Some(unanswered(base, &e, self.answered.load(Ordering::Relaxed)));
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(error.unwrap_or_else(|| SinkError::Stop("no address is given: name at least one".into())))
    }

    fn pack(&self, body: Vec<u8>) -> Result<(Vec<u8>, bool), SinkError> {
        if !self.compress || body.len() < WORTH_COMPRESSING {
            return Ok((body, false));
        }
        let packed = blocking(|| {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
            encoder.write_all(&body).and_then(|()| encoder.finish())
        });
        let packed = packed.map_err(|e| SinkError::Stop(format!("a request cannot be compressed: {e}")))?;
        Ok((packed, true))
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok(Reply { status, body: response.bytes().await?.to_vec() })
}

/// Why no answer came. A certificate that is not trusted today will not be trusted tomorrow.
fn unanswered(url: &Url, error: &reqwest::Error, answered: bool) -> SinkError {
    let mut hangs_up = false;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(rustls::Error::InvalidCertificate(problem)) = cause.downcast_ref() {
            return SinkError::Stop(untrusted(url, problem));
        }
        let http = cause.downcast_ref::<hyper::Error>();
        hangs_up |= http.is_some_and(|e| e.is_incomplete_message() || e.is_parse());
        let io = cause.downcast_ref::<io::Error>();
        hangs_up |= io.is_some_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
        // What an error of I/O wraps is no source of it, and may be another one.
        source = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    let remedy = if error.is_connect() {
        ": is it running, and is `url` right?"
    } else if hangs_up && !answered && url.scheme() == "http" {
        ": does it want TLS? Then write `url` with https://"
    } else {
        ""
    };
    SinkError::Retry(format!("{url} gives no answer: {}{remedy}", chain(error)))
}

fn untrusted(url: &Url, problem: &CertificateError) -> String {
    let remedy = match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "give `url` a name that it bears"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "have it renewed",
        _ => "name the authority that signed it as `ca`",
    };
    format!("{url} shows a certificate that is not trusted ({problem}): {remedy}")
}

/// The causes of an error, without the address, which stands in the message already.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "it took too long".to_owned() } else { String::new() };
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { text }
}

fn authorization(credentials: &Credentials) -> Result<HeaderValue, SinkError> {
    let text = match credentials {
        Credentials::Password { username, password } => {
            format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
        }
        // As the server hands it out: encoded already, or `id:key`.
        Credentials::ApiKey(key) if key.contains(':') => format!("ApiKey {}", STANDARD.encode(key)),
        Credentials::ApiKey(key) => format!("ApiKey {key}"),
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| SinkError::Stop("the API key holds characters that no header can have: correct it".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(options: &Options) -> Result<rustls::ClientConfig, SinkError> {
    let stop = |cause: String| SinkError::Stop(cause);
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &options.ca {
        let pem = std::fs::read(path).map_err(|e| stop(format!("the file of `ca` cannot be read: {e}")))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| stop(format!("the file of `ca` is not PEM: {e}")))?;
            roots.add(certificate).map_err(|e| stop(format!("the file of `ca` holds no usable certificate: {e}")))?;
        }
        if roots.is_empty() {
            return Err(stop("the file of `ca` holds no certificate: give one in PEM".into()));
        }
    } else if options.urls.iter().any(|url| url.starts_with("https")) {
        // What the system has and cannot be read is as if it were not there.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| stop(format!("TLS cannot be set up: {e}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("urls", &self.urls).finish_non_exhaustive()
    }
}
