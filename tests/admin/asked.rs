//! A run that is held by a pipe of events, and HTTP as bytes: nothing between the test and the wire.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::Site;

/// How long anything may take that is waited for, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How long to pause between two looks: who looks all the time takes the processor from what it waits for.
const PAUSE: Duration = Duration::from_millis(10);

/// A running program whose events come through a pipe.
pub(crate) struct Held {
    pub(crate) site: Site,
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    child: Child,
    events: Option<File>,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

/// What was answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Held {
    /// Starts the configuration, and waits until its admin API listens. Its events come from `events.jsonl`, if it has
    /// such a file.
    pub(crate) fn start(config: &str, arguments: &[&str]) -> Self {
        Self::start_with(config, arguments, |_| {})
    }

    /// The same, where something has to lie there first.
    pub(crate) fn start_with(config: &str, arguments: &[&str], prepare: impl FnOnce(&Site)) -> Self {
        let site = Site::new(config);
        prepare(&site);
        let made = Command::new("mkfifo").arg(site.path("events.jsonl")).status().unwrap();
        assert!(made.success());
        let mut child = site.start(&[&["run", "tidegate.toml"], arguments].concat());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {}", log.lock().unwrap())).unwrap();
            log.lock().unwrap().push_str(&format!("{line}\n"));
            if line.contains("the admin API listens") {
                break address(&line);
            }
        };
        let reading = thread::spawn({
            let log = log.clone();
            move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push_str(&format!("{line}\n")))
        });
        Self { site, address, token: None, child, events: None, log, reading }
    }

    /// Opens the pipe, which waits until the source reads.
    pub(crate) fn open(&mut self) {
        let path = self.site.path("events.jsonl");
        let (opened, opening) = mpsc::channel();
        thread::spawn(move || opened.send(File::options().write(true).open(path).unwrap()));
        let events = opening.recv_timeout(PATIENCE);
        self.events = Some(events.unwrap_or_else(|_| panic!("nobody reads the pipe: {}", self.log.lock().unwrap())));
    }

    pub(crate) fn write(&mut self, events: &[String]) {
        self.events.as_mut().unwrap().write_all((events.join("\n") + "\n").as_bytes()).unwrap();
    }

    /// No more events come.
    pub(crate) fn close(&mut self) {
        self.events = None;
    }

    pub(crate) fn get(&self, path: &str) -> Answered {
        self.ask(&format!("GET {path}"), "", &[])
    }

    pub(crate) fn post(&self, path: &str) -> Answered {
        self.ask(&format!("POST {path}"), "Content-Type: application/json\r\nContent-Length: 0\r\n", &[])
    }

    pub(crate) fn upload(&self, path: &str, module: &[u8]) -> Answered {
        let headers = format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", module.len());
        self.ask(&format!("POST {path}"), &headers, module)
    }

    fn ask(&self, line: &str, headers: &str, body: &[u8]) -> Answered {
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!("{line} HTTP/1.1\r\nHost: {}\r\n{token}{headers}\r\n", self.address);
        exchange(&self.address, &[head.as_bytes(), body].concat())
    }

    /// The sum of all samples whose line begins so.
    pub(crate) fn sum(&self, beginning: &str) -> u64 {
        let metrics = self.get("/metrics").body;
        let values = metrics.lines().filter(|line| line.starts_with(beginning));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The number of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The memory that it holds, MiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        held.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Waits for its end.
    pub(crate) fn output(self) -> (Site, Output) {
        let mut output = self.child.wait_with_output().unwrap();
        self.reading.join().unwrap();
        output.stderr = self.log.lock().unwrap().clone().into_bytes();
        (self.site, output)
    }

    /// Lets the events end, expects success, and answers the log.
    pub(crate) fn end_well(mut self) -> String {
        self.close();
        let (_, output) = self.output();
        assert!(output.status.success(), "{}", tidegate_tests::text(&output));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// The address in the line of the log, as text or as JSON.
fn address(line: &str) -> String {
    let rest = line.split_once("address\":\"").or_else(|| line.split_once("address=\"")).expect(line).1;
    rest.split('"').next().unwrap().replace("0.0.0.0", "127.0.0.1")
}

/// Sends bytes, and reads what comes back to its end.
pub(crate) fn exchange(address: &str, request: &[u8]) -> Answered {
    try_exchange(address, request).unwrap_or_else(|| panic!("no answer to {:.200}", String::from_utf8_lossy(request)))
}

/// The same, where the connection may be cut off without an answer.
pub(crate) fn try_exchange(address: &str, request: &[u8]) -> Option<Answered> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have answered, and closed, before it was told everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // None of them is long enough to come in chunks.
    Some(Answered { status, head: head.to_owned(), body: body.to_owned() })
}

/// Waits for something.
pub(crate) fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::park_timeout(PAUSE);
    }
}
