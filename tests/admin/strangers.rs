//! What strangers may cost a running program: connections, lines of the log, memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use tidegate_tests::guest;

use super::super::stop::{ORDERS, orders};
use super::asked::{Held, PATIENCE, exchange, until};

const LOOPBACK: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";
/// Lines of the log that requests of strangers may be within a minute.
const LINES: usize = 20;

fn held(admin: &str, arguments: &[&str]) -> Held {
    Held::start(&(ORDERS.to_owned() + admin), arguments)
}

/// The open files of a process.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

#[test]
fn probes_among_idle_connections_are_answered_at_once() {
    // What is refused, and not answered, would wait for this long.
    let mut run = held(&format!("{LOOPBACK}timeout_seconds = 3600\n"), &[]);
    run.open();
    until("ready", || (run.get("/readyz").status == 200).then_some(()));
    let before = descriptors(run.process());
    let open = |beginning: &[u8]| {
        let mut stream = TcpStream::connect(&run.address).unwrap();
        stream.write_all(beginning).unwrap();
        stream
    };
    let mut idle: Vec<TcpStream> = Vec::new();
    for round in 0..5 {
        // Some say nothing, some stop in the head. All those there are go on with a byte, those cut off in vain.
        idle.extend((0..100).flat_map(|_| [open(b""), open(b"GET /livez HTTP/1.1\r\nX")]));
        for stream in &mut idle {
            let _ = stream.write_all(b"y");
        }
        for path in ["/livez", "/readyz", "/livez"] {
            let mut stream = TcpStream::connect(&run.address).unwrap();
            // A probe of Kubernetes waits for less.
            stream.set_read_timeout(Some(std::time::Duration::from_secs(4))).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("round {round}, {path}: {error}"));
            assert!(answer.starts_with(b"HTTP/1.1 200"), "round {round}, {path}");
        }
    }
    assert_eq!(idle.len(), 1000);
    let grown = descriptors(run.process()) - before;
    assert!(grown <= 2 * 128, "{grown} more descriptors");
    // Those cut off learn of it.
    idle[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(idle[0].read(&mut [0; 1]), Ok(0)) || idle[0].write_all(b"z").is_err());
    drop(idle);
    run.end_well();
}

#[test]
fn requests_that_never_end_leave_places_for_probes() {
    let mut run = held(&format!("{LOOPBACK}timeout_seconds = 3600\n"), &[]);
    run.open();
    let head = format!(
        "POST /v1/pipelines/orders/pause HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
        run.address
    );
    let begun: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&run.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(run.get("/livez").status, 200);
    until("a refusal", || (run.get("/v1/pipelines").status == 503).then_some(()));
    assert_eq!(run.get("/livez").status, 200);
    drop(begun);
    until("room", || (run.get("/v1/pipelines").status == 200).then_some(()));
    run.end_well();
}

#[test]
fn refused_changes_are_few_short_lines_and_one_that_counts_the_rest() {
    let mut run = held(LOOPBACK, &["--log-format", "json"]);
    run.open();
    let long = "x".repeat(12 << 10);
    let asked = |path: &str, kind: &str| {
        let host = format!("Host: {}\r\nContent-Length: 0\r\n{kind}", run.address);
        exchange(&run.address, format!("POST {path} HTTP/1.1\r\n{host}\r\n").as_bytes()).status
    };
    // By the guard, and by what the change would have been of.
    for _ in 0..100 {
        assert_eq!(asked(&format!("/v1/{long}"), ""), 415);
        assert_eq!(asked(&format!("/v1/pipelines/{long}/pause"), "Content-Type: application/json\r\n"), 404);
    }
    // What is done is told all the same.
    assert_eq!(run.post("/v1/pipelines/orders/pause").status, 200);
    assert_eq!(run.post("/v1/pipelines/orders/resume").status, 200);
    let log = run.end_well();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let audited: Vec<_> = lines.iter().filter(|line| line["target"] == "tidegate::audit").collect();
    let with = |message: &str| audited.iter().filter(|line| line["message"] == message).count();
    // The minute may have ended in between.
    assert!((LINES..=2 * LINES).contains(&with("refused")), "{}", with("refused"));
    assert!((LINES + 2..=2 * LINES + 2).contains(&with("change")), "{}", with("change"));
    let left_out: u64 = audited.iter().filter_map(|line| line["count"].as_u64()).sum();
    assert_eq!(with("refused") as u64 + with("change") as u64 + left_out, 202, "{log:.2000}");
    assert!(log.lines().all(|line| line.len() < 1000), "a line of the log is long");
}

#[test]
fn module_above_two_mebibytes_is_taken_and_one_above_the_bound_is_refused_as_json() {
    let mut run = held(&format!("{LOOPBACK}max_body_mb = 6\n"), &[]);
    run.open();
    let events = orders();
    run.write(&events[..5]);
    until("five events", || (run.sum("tidegate_events_total{") == 5).then_some(()));
    // A section of a module that nobody reads, of five million bytes.
    let mut module = std::fs::read(guest("order-cache")).unwrap();
    let content = [&[4_u8][..], b"fill", &vec![7; 5_000_000]].concat();
    module.push(0);
    let mut length = content.len();
    while length > 127 {
        module.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    module.push(u8::try_from(length).unwrap());
    module.extend(content);
    let taken = run.upload("/v1/modules/orders/order-cache", &module);
    assert_eq!(taken.status, 202, "{}", taken.body);
    until("the module serves", || {
        (run.get("/v1/modules").json()["modules"][0]["offers"][0]["state"] == "serving").then_some(())
    });
    let refused = run.upload("/v1/modules/orders/order-cache", &vec![0; (6 << 20) + 1]);
    assert_eq!(refused.status, 413, "{}", refused.body);
    assert!(refused.json()["remedy"].as_str().unwrap().contains("max_body_mb"), "{}", refused.body);
    // Not told beforehand, it is found out while it comes.
    let head = format!(
        "POST /v1/modules/orders/order-cache HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        run.address
    );
    let chunk = [format!("{:x}\r\n", 7 << 20).as_bytes(), &vec![0; 7 << 20]].concat();
    let refused = exchange(&run.address, &[head.as_bytes(), &chunk].concat());
    assert_eq!((refused.status, refused.json()["error"].is_string()), (413, true), "{}", refused.body);
    run.end_well();
}

#[test]
fn socket_knows_loopback_names_alone() {
    let mut run = held("[admin]\nlisten = \"unix:admin.sock\"\n", &[]);
    run.open();
    let socket = run.site.path("admin.sock");
    let asked = |line: &str, headers: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nContent-Length: 0\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(asked("GET /v1/pipelines", "Host: localhost:9400\r\n"), 200);
    // A page whose name leads to the forwarded port is of one origin with what it asks.
    let rebound = "Host: evil.example:9400\r\nOrigin: http://evil.example:9400\r\nContent-Type: application/json\r\n";
    assert_eq!(asked("GET /v1/dead-letters", rebound), 421);
    assert_eq!(asked("POST /v1/pipelines/orders/pause", rebound), 421);
    run.end_well();
}
