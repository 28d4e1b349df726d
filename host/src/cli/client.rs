//! Asks the program that runs a configuration, where its `[admin]` says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::http::request;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tidegate::config::{Admin, AdminAddress, Config};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;

use super::exit::UsageError;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// What an answer may hold: twice what the letters of one record may, since JSON writes some bytes as several.
const ANSWER_BYTES: usize = 256 << 20;

/// Nobody listens where the configuration says.
#[derive(Debug)]
pub(super) struct NotRunning(String);

impl std::fmt::Display for NotRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRunning {}

/// Where to ask.
///
/// # Errors
/// When the configuration has no `[admin]`.
pub(super) fn admin(config: &Config) -> anyhow::Result<&Admin> {
    config.admin.as_ref().ok_or_else(|| {
        let cause = format!("{} has no [admin], so the program that runs it answers nowhere", config.file.display());
        UsageError(format!("{cause}; add `[admin]` with `listen = \"127.0.0.1:9400\"`, and start it again")).into()
    })
}

/// Asks for a path, whose parts are encoded already, and answers the JSON.
///
/// # Errors
/// [`NotRunning`] when nobody listens there; otherwise what the program answers, with its remedy.
pub(super) fn ask(admin: &Admin, method: Method, path: &str) -> anyhow::Result<Value> {
    send(admin, method, path, Content::Json)
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing, of the type that changes have.
    Json,
    /// What is asked for.
    Text(String),
    /// A module.
    Module(Bytes),
}

/// As [`ask`], with a body.
///
/// # Errors
/// As [`ask`].
pub(super) fn send(admin: &Admin, method: Method, path: &str, content: Content) -> anyhow::Result<Value> {
    let (kind, body) = match content {
        Content::Json => ("application/json", Bytes::new()),
        Content::Text(json) => ("application/json", json.into()),
        Content::Module(bytes) => ("application/octet-stream", bytes),
    };
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = ask_there(admin, request, body);
        // The program ends a connection after so long by itself.
        let patience = admin.timeout + CONNECT;
        tokio::time::timeout(patience, asked)
            .await
            .map_err(|_| anyhow!("the program did not answer within {patience:?}"))?
    })
}

async fn ask_there(admin: &Admin, request: request::Builder, body: Bytes) -> anyhow::Result<Value> {
    let not_running = |place: &str, error: &dyn std::fmt::Display| {
        NotRunning(format!("nobody answers at {place}, where [admin] listens: {error}; start it with `tidegate run`"))
    };
    match &admin.listen {
        AdminAddress::Tcp(listen) => {
            let address = reachable(*listen);
            let stream =
                TcpStream::connect(address).await.map_err(|error| not_running(&address.to_string(), &error))?;
            exchange(stream, &address.to_string(), admin, request, body).await
        }
        AdminAddress::Unix(socket) => {
            let stream =
                UnixStream::connect(socket.as_path()).await.map_err(|error| not_running(socket.shown(), &error))?;
            exchange(stream, "localhost", admin, request, body).await
        }
    }
}

/// One of the addresses that a server listens on.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    admin: &Admin,
    request: request::Builder,
    body: Bytes,
) -> anyhow::Result<Value> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end shows in the answer.
    drop(tokio::spawn(connection));
    let mut request = request.header(header::HOST, host);
    if let Some(token) = &admin.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let answer = sender.send_request(request.body(Full::new(body))?).await.context("the program gave no answer")?;
    let status = answer.status();
    let bytes = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
    let bytes = bytes.map_err(|error| anyhow!("the program's answer broke off: {error}"))?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).with_context(|| format!("the answer ({status}) is no JSON"))?;
    if status.is_success() {
        return Ok(answer);
    }
    let text = |name: &str| answer[name].as_str().unwrap_or("no reason given").to_owned();
    Err(anyhow!("{} ({status}); {}", text("error"), text("remedy")))
}

/// A part of a path, or a value of a query, as it is written there.
pub(super) fn encoded(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
