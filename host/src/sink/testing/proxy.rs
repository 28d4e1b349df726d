//! A proxy before a store, which loses a request or its answer.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where a connection is cut: behind a word that the server got, or before it gets it.
#[derive(Clone)]
enum Cut {
    Behind { request: &'static str, answer: &'static str },
    Before(&'static str),
}

/// What happens before a request with this word goes on.
type Event = (&'static str, Box<dyn FnOnce() + Send>);

/// Passes everything on to a server, until it is told to cut a connection.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// What is to be cut, one after the other.
    cuts: Arc<Mutex<VecDeque<Cut>>>,
    before: Arc<Mutex<Option<Event>>>,
    requests: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            cuts: Arc::default(),
            before: Arc::default(),
            requests: Arc::default(),
        };
        let (cuts, before, requests) =
            (Arc::clone(&proxy.cuts), Arc::clone(&proxy.before), Arc::clone(&proxy.requests));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let (cuts, before, requests) = (Arc::clone(&cuts), Arc::clone(&before), Arc::clone(&requests));
                std::thread::spawn(move || pass(client, server, &cuts, &before, &requests));
            }
        });
        proxy
    }

    /// How many requests have come, each in one piece.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The next request with this word reaches the server; the answers from then on get lost, and the connection with
    /// them when one with the other word says that all is done.
    pub(crate) fn cut_behind(&self, request: &'static str, answer: &'static str) {
        *self.cuts.lock().unwrap() = [Cut::Behind { request, answer }].into();
    }

    /// When what is to be cut has been cut, the next request with this word gets lost too, and the connection with it.
    pub(crate) fn then_before(&self, request: &'static str) {
        self.cuts.lock().unwrap().push_back(Cut::Before(request));
    }

    /// The next request with this word gets lost, and the connection with it.
    pub(crate) fn cut_before(&self, request: &'static str) {
        *self.cuts.lock().unwrap() = [Cut::Before(request)].into();
    }

    /// Something happens before the next request with this word reaches the server.
    pub(crate) fn before(&self, request: &'static str, event: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some((request, Box::new(event)));
    }
}

/// Requests and answers take turns, and are small enough to come in one piece.
fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    cuts: &Mutex<VecDeque<Cut>>,
    before: &Mutex<Option<Event>>,
    requests: &AtomicUsize,
) {
    let awaited: Arc<Mutex<Option<&'static str>>> = Arc::default();
    let answers = {
        let (server, client, awaited) = (server.try_clone().unwrap(), client.try_clone().unwrap(), awaited.clone());
        std::thread::spawn(move || answer(server, client, &awaited))
    };
    let mut buffer = vec![0; 1 << 20];
    while let Ok(size @ 1..) = client.read(&mut buffer) {
        requests.fetch_add(1, Ordering::Relaxed);
        let now = before.lock().unwrap().take_if(|(word, _)| has(&buffer[..size], word));
        if let Some((_, event)) = now {
            event();
        }
        let here = cuts.lock().unwrap().pop_front_if(|cut| match cut {
            Cut::Behind { request: word, .. } | Cut::Before(word) => has(&buffer[..size], word),
        });
        match here {
            Some(Cut::Before(_)) => break,
            Some(Cut::Behind { answer, .. }) => *awaited.lock().unwrap() = Some(answer),
            None => {}
        }
        if server.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    let _ = answers.join();
}

fn answer(mut server: TcpStream, mut client: TcpStream, awaited: &Mutex<Option<&'static str>>) {
    let (mut buffer, mut unheard) = (vec![0; 1 << 20], Vec::new());
    while let Ok(size @ 1..) = server.read(&mut buffer) {
        let awaited = *awaited.lock().unwrap();
        if let Some(word) = awaited {
            unheard.extend_from_slice(&buffer[..size]);
            if has(&unheard, word) {
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
