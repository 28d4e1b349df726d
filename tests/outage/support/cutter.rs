//! Stands between the program and a store, and cuts connections in the middle of what they were about.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere.
    Nowhere,
    /// The request gets lost.
    Before,
    /// The request is executed, and the answer gets lost.
    Behind,
}

type Rule = Box<dyn FnMut() -> Cut + Send>;

/// Passes on everything else. It stands as long as the tests run.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
    /// How often it has cut.
    cuts: Arc<AtomicUsize>,
}

/// What it looks for: a word of the request, and what the answer to that one has.
#[derive(Clone, Copy)]
struct Words {
    request: &'static str,
    answer: &'static str,
}

impl Cutter {
    /// Before a server, for requests that have the one word and are answered by the other. A request comes in one piece.
    pub(crate) fn before(server: SocketAddr, request: &'static str, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|| Cut::Nowhere)));
        let cutter = Self { address: listener.local_addr().unwrap(), rule, cuts: Arc::default() };
        let (rule, cuts, words) = (Arc::clone(&cutter.rule), Arc::clone(&cutter.cuts), Words { request, answer });
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server of the test's own may be gone by now.
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (rule, cuts) = (Arc::clone(&rule), Arc::clone(&cuts));
                thread::spawn(move || pass(client, server, words, &rule, &cuts));
            }
        });
        cutter
    }

    /// From now on this decides about each such request.
    pub(crate) fn rule(&self, rule: impl FnMut() -> Cut + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// How often it has cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass(mut client: TcpStream, mut server: TcpStream, words: Words, rule: &Mutex<Rule>, cuts: &AtomicUsize) {
    let silent = Arc::new(Mutex::new(false));
    let answers = {
        let (server, client, silent) = (server.try_clone().unwrap(), client.try_clone().unwrap(), Arc::clone(&silent));
        thread::spawn(move || answer(server, client, words, &silent))
    };
    let mut buffer = vec![0; 1 << 20];
    while let Ok(size @ 1..) = client.read(&mut buffer) {
        let here = has(&buffer[..size], words.request);
        let cut = if here { rule.lock().unwrap()() } else { Cut::Nowhere };
        cuts.fetch_add(usize::from(cut != Cut::Nowhere), Ordering::SeqCst);
        if cut == Cut::Before {
            break;
        }
        *silent.lock().unwrap() |= cut == Cut::Behind;
        if server.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    answers.join().unwrap();
}

/// Passes answers on, until they are to get lost: then it waits for the one that says that all is done.
fn answer(mut server: TcpStream, mut client: TcpStream, words: Words, silent: &Mutex<bool>) {
    let (mut buffer, mut unheard) = (vec![0; 1 << 20], Vec::new());
    while let Ok(size @ 1..) = server.read(&mut buffer) {
        if *silent.lock().unwrap() {
            unheard.extend_from_slice(&buffer[..size]);
            if has(&unheard, words.answer) {
                break;
            }
        } else if client.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}
