//! Who may ask. Everything here is decided before a handler sees the request, and before its body is read.
//!
//! A web page that the operator has open must reach nothing, whatever name it gives this address: the name that the
//! request calls the host by must be one of its own, the request must not come from another site, and one that changes
//! something must have a type that a form cannot send. Where other machines can reach the address, a token is asked for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::answer::Refused;
use super::places::Place;
use super::quota::cut;
use super::{State, page};
use crate::config::AdminAddress;

/// What may be asked without a token, and then is answered with a bare yes or no.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// An address.
    Tcp(SocketAddr),
    /// A process of this machine, by its user and its number where the system tells it.
    Unix(u32, Option<i32>),
}

/// Those of whom a peer is one: an address, or a user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Neighbour {
    Address(IpAddr),
    User(u32),
}

impl Peer {
    pub(super) fn neighbour(self) -> Neighbour {
        match self {
            Self::Tcp(address) => Neighbour::Address(address.ip()),
            Self::Unix(user, _) => Neighbour::User(user),
        }
    }
}

/// Who has asked, for the log; with the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    peer: Peer,
    /// It has shown the token, or needs none.
    pub(super) trusted: bool,
    token: bool,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token { "token, " } else { "" };
        match self.peer {
            Peer::Tcp(address) => write!(f, "{token}{address}"),
            Peer::Unix(user, Some(process)) => write!(f, "{token}user {user}, process {process}"),
            Peer::Unix(user, None) => write!(f, "{token}user {user}"),
        }
    }
}

/// What is asked of a request, by where the server listens.
#[derive(Debug)]
pub(super) struct Access {
    /// The SHA-256 of the token: what is compared has one length, whatever is sent.
    token: Option<[u8; 32]>,
    hosts: Hosts,
}

/// The names that a request may call this host by.
#[derive(Debug)]
enum Hosts {
    /// A loopback address: `localhost` and the address itself.
    Loopback(IpAddr),
    /// A socket: `localhost` and every loopback address, since a browser may come through a forwarded port, which is on
    /// such an address. A web page whose own name was made to lead there comes under that name.
    Forwarded,
    /// Any: an address of which everything needs the token. A page of another name does not have it.
    Any,
}

impl Access {
    /// What is asked where the server listens there.
    pub(super) fn new(listen: &AdminAddress, token: Option<&str>) -> Self {
        let hosts = match listen {
            AdminAddress::Tcp(address) if address.ip().is_loopback() => Hosts::Loopback(address.ip()),
            AdminAddress::Tcp(_) => Hosts::Any,
            AdminAddress::Unix(_) => Hosts::Forwarded,
        };
        Self { token: token.map(|token| Sha256::digest(token).into()), hosts }
    }

    /// Whether a request may go on, and who it is of.
    fn admit(&self, peer: Peer, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Who, Refused> {
        check_path(uri)?;
        let host = self.check_host(headers)?;
        let is_page = !changes(method) && page::has(uri.path());
        if !(is_page && is_navigation(headers)) {
            check_origin(headers, host)?;
        }
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown =
            shown.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = match (&self.token, shown) {
            (Some(token), Some((_, shown))) => {
                let shown: [u8; 32] = Sha256::digest(shown.trim()).into();
                bool::from(token.ct_eq(&shown))
            }
            _ => false,
        };
        let trusted = token || self.token.is_none();
        // The page holds no data; it asks for the token itself.
        if !trusted && !is_page && !PROBES.contains(&uri.path()) {
            return Err(Refused::new(
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong",
                "send `Authorization: Bearer TOKEN` with the `token` of [admin]",
            ));
        }
        if changes(method) {
            check_type(headers)?;
        }
        Ok(Who { peer, trusted, token })
    }

    fn check_host<'h>(&self, headers: &'h HeaderMap) -> Result<&'h str, Refused> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
        let known = host.is_some_and(|host| match self.hosts {
            Hosts::Any => !host.is_empty(),
            Hosts::Loopback(own) => is_local(host, |ip| ip == own),
            Hosts::Forwarded => is_local(host, |ip| ip.is_loopback()),
        });
        host.filter(|_| known).ok_or_else(|| {
            Refused::new(
                StatusCode::MISDIRECTED_REQUEST,
                "the request names another host than this one",
                "call this address by its number or as `localhost`",
            )
        })
    }
}

/// Whether a host, with or without a port, is `localhost` or one of these addresses.
fn is_local(host: &str, own: impl FnOnce(IpAddr) -> bool) -> bool {
    let (name, rest) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some(split) => split,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port && (name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(own))
}

/// Whether a request may change something.
pub(super) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Paths are names here, not files; one that tries to leave its place is no honest one.
fn check_path(uri: &Uri) -> Result<(), Refused> {
    let path = uri.path();
    let lower = path.to_ascii_lowercase();
    let tricky = uri.authority().is_some()
        || !path.starts_with('/')
        || path.contains("//")
        || path.contains('\\')
        || ["%2e", "%2f", "%5c", "%25", "%0", "%1", "%7f"].iter().any(|code| lower.contains(code))
        || path.split('/').any(|part| part == "." || part == "..");
    if tricky {
        let remedy = "write the path as `/openapi.json` has it";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "the path is none of this server's", remedy));
    }
    Ok(())
}

/// Whether somebody follows a link in a browser. No page can read, or frame, what comes of it.
fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|given| given == value);
    is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document") && !headers.contains_key(header::ORIGIN)
}

fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Refused> {
    let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        !own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    });
    let site =
        headers.get_all(SEC_FETCH_SITE).iter().any(|site| !["same-origin", "none"].iter().any(|own| site == own));
    if foreign || site {
        let remedy = "open this server's own page, or ask without a browser";
        return Err(Refused::new(StatusCode::FORBIDDEN, "the request comes from another site", remedy));
    }
    Ok(())
}

fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    if ["application/json", "application/octet-stream"].contains(&given.as_str()) {
        return Ok(());
    }
    Err(Refused::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a change needs a type that no form sends",
        "send `Content-Type: application/json`, or `application/octet-stream` with a module",
    ))
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn guard(Shared(state): Shared<Arc<State>>, mut request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let peer = request.extensions().get::<Peer>().copied();
    let is_probe = PROBES.contains(&uri.path());
    let has_place = request.extensions().get::<Arc<Place>>().is_some_and(|place| place.begin(is_probe));
    let admitted = match peer {
        Some(_) if !has_place => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests are being answered",
            "ask again in a few seconds",
        )),
        Some(peer) => state.access.admit(peer, &method, &uri, request.headers()),
        None => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection has no peer", "report this")),
    };
    let mut response = match admitted {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refused) => {
            if changes(&method) && state.quotas.strangers.allows() {
                let who = peer.map_or_else(String::new, |peer| Who { peer, trusted: false, token: false }.to_string());
                let (method, path) = (cut(method.as_str()), cut(uri.path()));
                tracing::warn!(target: "tidegate::audit", who, method, path, outcome = refused.error, "refused");
            }
            refused.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
