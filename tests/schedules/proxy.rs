//! A wire between the program and a store that can be cut, slowed, stopped, lose an answer, or answer itself, and that sees
//! what goes over it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a busy server of Elasticsearch says.
const BUSY: &str = r#"{"error":{"type":"es_rejected_execution_exception","reason":"busy"},"status":429}"#;

/// What is done to what goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Pass,
    /// Connections are ended as soon as they are made.
    Refuse,
    /// Nothing comes through, either way, and nothing is ended.
    Hold,
    /// Everything comes so much later.
    Slow(Duration),
    /// The next request goes through, its answer is lost, and the connection is ended: once.
    LoseAnswer,
    /// Every request over HTTP is answered by 429.
    Busy,
}

/// What becomes of bytes that go by.
enum Verdict {
    Pass,
    /// They get lost, and the connection with them.
    Lose,
    /// They are the beginning of a request that is refused.
    Refuse,
}

/// What a trap waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    /// A request that holds these bytes.
    Request(&'static [u8]),
    /// The same, which then does not come through.
    Unsent(&'static [u8]),
    /// The answer to such a request, which then does not come through.
    AnswerTo(&'static [u8]),
    /// An answer that holds these bytes, which then does not come through.
    Answer(&'static [u8]),
}

/// What to do at a sign, once.
pub(super) struct Trap {
    /// Which replica's connections it looks at; none for all.
    pub(super) replica: Option<usize>,
    pub(super) sign: Sign,
    pub(super) spring: Box<dyn FnOnce() + Send>,
}

impl Trap {
    fn is_for(&self, replica: usize) -> bool {
        self.replica.is_none_or(|one| one == replica)
    }
}

#[derive(Default)]
struct State {
    mode: Option<Mode>,
    trap: Option<Trap>,
    live: Vec<(TcpStream, TcpStream)>,
}

/// The wire. It is there as long as the test.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Where each replica of the program finds the store.
    pub(super) addresses: Vec<SocketAddr>,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// A wire from so many replicas to the server that listens there.
    pub(super) fn to(server: &str, replicas: usize) -> Self {
        let listeners: Vec<_> = (0..replicas).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let proxy = Self { addresses, state: Arc::default() };
        for (replica, listener) in listeners.into_iter().enumerate() {
            let (server, accepting) = (server.to_owned(), proxy.clone());
            thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if accepting.mode() == Mode::Refuse {
                        continue;
                    }
                    if let Ok(store) = TcpStream::connect(&server) {
                        accepting.join(replica, client, store);
                    }
                }
            });
        }
        proxy
    }

    fn join(&self, replica: usize, client: TcpStream, store: TcpStream) {
        let _ = (client.set_nodelay(true), store.set_nodelay(true));
        let pair = |client: &TcpStream, store: &TcpStream| (client.try_clone().unwrap(), store.try_clone().unwrap());
        {
            let mut state = self.state.lock().unwrap();
            state.live.retain(|(client, _)| client.peer_addr().is_ok());
            state.live.push(pair(&client, &store));
        }
        let lost = Arc::new(Mutex::new(false));
        let (there, back) = (self.clone(), self.clone());
        let (request, answer) = (pair(&client, &store), (store, client));
        let asked = lost.clone();
        thread::spawn(move || {
            there.carry(request.0, request.1, |proxy, bytes| proxy.requested(replica, bytes, &asked));
        });
        thread::spawn(move || back.carry(answer.0, answer.1, |proxy, bytes| proxy.answered(replica, bytes, &lost)));
    }

    /// Carries bytes one way until an end, or until `look` says that they are not to go on.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, look: impl Fn(&Self, &[u8]) -> Verdict) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            loop {
                match self.mode() {
                    Mode::Hold => thread::park_timeout(Duration::from_millis(5)),
                    Mode::Slow(time) => break thread::park_timeout(time),
                    _ => break,
                }
            }
            let passed = match look(self, &bytes[..count]) {
                Verdict::Pass => to.write_all(&bytes[..count]).is_ok(),
                Verdict::Lose => false,
                Verdict::Refuse => refuse(&mut from, &bytes[..count]).is_some(),
            };
            if !passed {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// A request goes by. Notes whether its answer is to get lost.
    fn requested(&self, replica: usize, bytes: &[u8], lost: &Mutex<bool>) -> Verdict {
        let mut state = self.state.lock().unwrap();
        if state.mode == Some(Mode::Busy)
            && [&b"POST "[..], b"PUT ", b"GET "].iter().any(|verb| bytes.starts_with(verb))
        {
            return Verdict::Refuse;
        }
        let loses = state.mode.take_if(|mode| *mode == Mode::LoseAnswer).is_some();
        let trap = state.trap.as_ref().filter(|trap| trap.is_for(replica));
        let answered = trap.is_some_and(|trap| matches!(trap.sign, Sign::AnswerTo(request) if holds(bytes, request)));
        if loses || answered {
            *lost.lock().unwrap() = true;
        }
        let sprung = state.trap.take_if(|trap| {
            trap.is_for(replica)
                && matches!(trap.sign, Sign::Request(request) | Sign::Unsent(request) if holds(bytes, request))
        });
        drop(state);
        let Some(trap) = sprung else { return Verdict::Pass };
        (trap.spring)();
        if matches!(trap.sign, Sign::Unsent(_)) { Verdict::Lose } else { Verdict::Pass }
    }

    /// An answer comes.
    fn answered(&self, replica: usize, bytes: &[u8], lost: &Mutex<bool>) -> Verdict {
        let lost = std::mem::take(&mut *lost.lock().unwrap());
        let sprung = self.state.lock().unwrap().trap.take_if(|trap| {
            trap.is_for(replica)
                && match trap.sign {
                    Sign::Request(_) | Sign::Unsent(_) => false,
                    Sign::AnswerTo(_) => lost,
                    Sign::Answer(answer) => holds(bytes, answer),
                }
        });
        let is_sprung = sprung.is_some();
        if let Some(trap) = sprung {
            (trap.spring)();
        }
        if lost || is_sprung { Verdict::Lose } else { Verdict::Pass }
    }

    /// From now on.
    pub(super) fn set(&self, mode: Mode) {
        self.state.lock().unwrap().mode = Some(mode);
        if mode == Mode::Refuse {
            self.cut(Shutdown::Both);
        }
    }

    /// Once.
    pub(super) fn trap(&self, trap: Trap) {
        self.state.lock().unwrap().trap = Some(trap);
    }

    /// Ends what is open: the client's side alone, or both.
    pub(super) fn cut(&self, how: Shutdown) {
        for (client, store) in &self.state.lock().unwrap().live {
            let _ = client.shutdown(how);
            if how == Shutdown::Both {
                let _ = store.shutdown(how);
            }
        }
    }

    /// Nothing is wrong from now on.
    pub(super) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        (state.mode, state.trap) = (None, None);
    }

    fn mode(&self) -> Mode {
        self.state.lock().unwrap().mode.unwrap_or(Mode::Pass)
    }
}

/// Answers a request that begins so by 429, when all of it has come. None when the connection ends before.
fn refuse(client: &mut TcpStream, begin: &[u8]) -> Option<()> {
    let mut request = begin.to_vec();
    let mut more = vec![0; 64 << 10];
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= head.len() + 4 + length {
                break;
            }
        }
        let count = client.read(&mut more).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&more[..count]);
    }
    let length = BUSY.len();
    let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length";
    client.write_all(format!("{head}: {length}\r\n\r\n{BUSY}").as_bytes()).ok()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
