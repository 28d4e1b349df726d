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

/// What to do when a request has been seen that holds these bytes.
pub(super) struct Trap {
    /// Bytes of the request.
    pub(super) request: &'static [u8],
    /// Whether to wait until it was answered, of which the program hears nothing.
    pub(super) answered: bool,
    /// What to do: once.
    pub(super) spring: Box<dyn FnOnce() + Send>,
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
    /// Where the program finds the store.
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// A wire to the server that listens there.
    pub(super) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let (server, accepting) = (server.to_owned(), proxy.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.mode() == Mode::Refuse {
                    continue;
                }
                if let Ok(store) = TcpStream::connect(&server) {
                    accepting.join(client, store);
                }
            }
        });
        proxy
    }

    fn join(&self, client: TcpStream, store: TcpStream) {
        let _ = (client.set_nodelay(true), store.set_nodelay(true));
        let pair = |client: &TcpStream, store: &TcpStream| (client.try_clone().unwrap(), store.try_clone().unwrap());
        {
            let mut state = self.state.lock().unwrap();
            state.live.retain(|(client, _)| client.peer_addr().is_ok());
            state.live.push(pair(&client, &store));
        }
        let lost = Arc::new(Mutex::new(None));
        let (there, back) = (self.clone(), self.clone());
        let (request, answer) = (pair(&client, &store), (store, client));
        let asked = lost.clone();
        thread::spawn(move || there.carry(request.0, request.1, |proxy, bytes| proxy.requested(bytes, &asked)));
        thread::spawn(move || back.carry(answer.0, answer.1, |proxy, _| proxy.answered(&lost)));
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

    /// A request goes by. Notes what is to become of its answer.
    fn requested(&self, bytes: &[u8], lost: &Mutex<Option<Trap>>) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.mode == Some(Mode::LoseAnswer) {
            state.mode = None;
            let nothing = Trap { request: b"", answered: true, spring: Box::new(|| {}) };
            *lost.lock().unwrap() = Some(nothing);
        }
        let holds = |trap: &Trap| bytes.windows(trap.request.len()).any(|window| window == trap.request);
        match state.trap.take_if(|trap| holds(trap)) {
            Some(trap) if trap.answered => *lost.lock().unwrap() = Some(trap),
            Some(trap) => {
                drop(state);
                (trap.spring)();
            }
            None => {}
        }
        true
    }

    /// An answer comes; false when it is to be lost.
    fn answered(&self, lost: &Mutex<Option<Trap>>) -> bool {
        let Some(trap) = lost.lock().unwrap().take() else { return true };
        (trap.spring)();
        false
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
