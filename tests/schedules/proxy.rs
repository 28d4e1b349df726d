//! A wire between the program and a store that can be cut, slowed, stopped, or lose an answer, and that sees what goes
//! over it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
}

/// What a trap waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    /// A request that holds these bytes.
    Request(&'static [u8]),
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
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, look: impl Fn(&Self, &[u8]) -> bool) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            loop {
                match self.mode() {
                    Mode::Hold => thread::park_timeout(Duration::from_millis(5)),
                    Mode::Slow(time) => break thread::park_timeout(time),
                    _ => break,
                }
            }
            if !look(self, &bytes[..count]) || to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// A request goes by. Notes whether its answer is to get lost.
    fn requested(&self, replica: usize, bytes: &[u8], lost: &Mutex<bool>) -> bool {
        let mut state = self.state.lock().unwrap();
        let loses = state.mode == Some(Mode::LoseAnswer);
        if loses {
            state.mode = None;
        }
        let trap = state.trap.as_ref().filter(|trap| trap.is_for(replica));
        let answered = trap.is_some_and(|trap| matches!(trap.sign, Sign::AnswerTo(request) if holds(bytes, request)));
        if loses || answered {
            *lost.lock().unwrap() = true;
        }
        let sprung = state.trap.take_if(|trap| {
            trap.is_for(replica) && matches!(trap.sign, Sign::Request(request) if holds(bytes, request))
        });
        drop(state);
        if let Some(trap) = sprung {
            (trap.spring)();
        }
        true
    }

    /// An answer comes; false when it is to get lost.
    fn answered(&self, replica: usize, bytes: &[u8], lost: &Mutex<bool>) -> bool {
        let lost = std::mem::take(&mut *lost.lock().unwrap());
        let sprung = self.state.lock().unwrap().trap.take_if(|trap| {
            trap.is_for(replica)
                && match trap.sign {
                    Sign::Request(_) => false,
                    Sign::AnswerTo(_) => lost,
                    Sign::Answer(answer) => holds(bytes, answer),
                }
        });
        let is_sprung = sprung.is_some();
        if let Some(trap) = sprung {
            (trap.spring)();
        }
        !lost && !is_sprung
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

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
