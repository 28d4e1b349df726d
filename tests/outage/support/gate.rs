//! A gate before an HTTP server, as operators put one before theirs: it ends TLS, asks who comes and what for, and
//! passes on what it lets through. It also loses what a test wants to be lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Identity;

/// What somebody asks of the server.
pub(crate) struct Request {
    method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// The server answers it.
    Pass,
    /// It is answered here, with this status and body.
    Answer(u16, String),
    /// The server gets it, and its answer is lost, and the connection with it.
    LoseAnswer,
    /// It is lost on its way, and the connection with it.
    LoseRequest,
}

type Rule = Box<dyn FnMut(&Request) -> Verdict + Send>;

/// The gate. It stands as long as the tests run.
pub(crate) struct Gate {
    /// Where it is, on `localhost` where it has a certificate.
    pub(crate) url: String,
    rule: Arc<Mutex<Rule>>,
}

impl Request {
    /// A header's value, by its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Gate {
    /// One that lets everything through to a server, with TLS where it has a certificate.
    pub(crate) fn open(server: &str, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url =
            if identity.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let tls = identity.map(|identity| Arc::new(tls(identity)));
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| Verdict::Pass)));
        let gate = Self { url, rule: Arc::clone(&rule) };
        let server = server.strip_prefix("http://").unwrap().to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, rule, tls) = (server.clone(), Arc::clone(&rule), tls.clone());
                thread::spawn(move || match tls {
                    // As Elasticsearch does it: who does not begin with a handshake is hung up on without a word.
                    Some(_) if !shakes_hands(&client) => {}
                    Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), client), &server, &rule),
                    None => serve(client, &server, &rule),
                });
            }
        });
        gate
    }

    /// From now on this decides.
    pub(crate) fn rule(&self, rule: impl FnMut(&Request) -> Verdict + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }
}

fn tls(identity: &Identity) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(&identity.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    config.with_single_cert(vec![certificate], key).unwrap()
}

/// Whether what comes first is a record of a TLS handshake.
fn shakes_hands(client: &TcpStream) -> bool {
    let mut first = [0];
    client.peek(&mut first).is_ok_and(|read| read == 1) && first == [22]
}

/// Answers one request after the other, until the connection ends.
fn serve(stream: impl Read + Write, server: &str, rule: &Mutex<Rule>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        let verdict = rule.lock().unwrap()(&request);
        let answer = match verdict {
            Verdict::Pass => pass(server, &request),
            Verdict::Answer(status, body) => Some((format!("{status} As Told"), body.into_bytes())),
            Verdict::LoseAnswer => {
                pass(server, &request);
                None
            }
            Verdict::LoseRequest => None,
        };
        let Some((status, body)) = answer else { return };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = stream.get_mut();
        if stream.write_all(&[head.as_bytes(), &body].concat()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        let read = stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut request = Request { method, path, headers, body: String::new() };
    let mut body = vec![0; request.header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

/// The server's status and body; none when it does not answer.
fn pass(server: &str, request: &Request) -> Option<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(server).ok()?;
    let kind = request.header("content-type").unwrap_or("application/json");
    // HTTP/1.0 has no chunks and ends with the connection.
    let head = format!(
        "{} {} HTTP/1.0\r\nHost: {server}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        request.method,
        request.path,
        request.body.len()
    );
    stream.write_all(format!("{head}{}", request.body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    let status = String::from_utf8(answer).ok()?.lines().next()?.split_once(' ')?.1.to_owned();
    Some((status, body))
}
