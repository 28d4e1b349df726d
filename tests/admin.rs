//! A running program is looked at, paused and attacked over HTTP, as an operator and a stranger would.

pub(crate) mod asked;
mod history;
mod lag;
pub(crate) mod modules;
mod strangers;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::{Site, text};

use self::asked::{Held, PATIENCE, exchange, try_exchange, until};
use super::stop::{ORDERS, orders};

const LOOPBACK: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// The orders, from a pipe that the test holds open, and an admin API.
fn held(admin: &str, arguments: &[&str]) -> Held {
    Held::start(&(ORDERS.to_owned() + admin), arguments)
}

#[test]
fn probes_metrics_and_pipelines_tell_what_a_run_does() {
    let mut run = held(LOOPBACK, &[]);
    assert_eq!(run.get("/livez").status, 200);
    run.open();
    let events = orders();
    run.write(&events[..10]);
    until("ten events", || (run.sum("tidegate_events_total{") == 10).then_some(()));
    let ready = run.get("/readyz");
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &Value::Bool(true)));

    let pipelines = run.get("/v1/pipelines").json();
    let orders = &pipelines["pipelines"][0];
    assert_eq!((&orders["name"], &orders["state"]), (&"orders".into(), &"running".into()), "{pipelines}");
    let done: u64 = orders["events"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(done, 10);
    let next: Vec<_> = orders["partitions"].as_array().unwrap().iter().map(|one| one["next_offset"].as_u64()).collect();
    assert!(!next.is_empty() && next.iter().all(Option::is_some), "{pipelines}");
    assert_eq!(orders["transforms"][0]["digest"].as_str().unwrap().len(), 64);

    let metrics = run.get("/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for part in [
        "tidegate_commands_total{pipeline=\"orders\",kind=\"cache-set\",outcome=\"done\"}",
        "tidegate_transform_seconds_bucket{pipeline=\"orders\",transform=\"order-cache\",le=\"+Inf\"}",
        "tidegate_sink_write_seconds_count{pipeline=\"orders\",sink=\"cache\"}",
        "tidegate_pipeline_state{pipeline=\"orders\",state=\"running\"} 1",
        "tidegate_partition_next_offset{pipeline=\"orders\",topic=\"dbserver1.public.orders\",partition=",
        "tidegate_transform_memory_peak_bytes{",
        "tidegate_memory_bytes ",
    ] {
        assert!(metrics.body.contains(part), "{part}\n{}", metrics.body);
    }
    assert_eq!(run.sum("tidegate_claims_total{"), u64::try_from(next.len()).unwrap());
    assert_eq!(run.sum("tidegate_batch_events_sum{"), 10);
    run.end_well();
}

#[test]
fn a_paused_pipeline_takes_in_nothing_until_it_is_resumed() {
    let mut run = held(LOOPBACK, &["--log-format", "json"]);
    run.open();
    let events = orders();
    run.write(&events[..5]);
    until("five events", || (run.sum("tidegate_events_total{") == 5).then_some(()));
    let paused = run.post("/v1/pipelines/orders/pause");
    assert_eq!((paused.status, &paused.json()["state"]), (200, &"paused".into()));
    run.write(&events[5..10]);
    for _ in 0..50 {
        assert_eq!(run.sum("tidegate_events_total{"), 5);
    }
    // What is paused is no less ready.
    assert_eq!(run.get("/readyz").status, 200);
    assert_eq!(run.post("/v1/pipelines/orders/resume").json()["paused"], Value::Bool(false));
    until("ten events", || (run.sum("tidegate_events_total{") == 10).then_some(()));
    let unknown = run.post("/v1/pipelines/order/pause");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["remedy"].as_str().is_some_and(|remedy| remedy.contains("/v1/pipelines")));
    let log = run.end_well();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let audited: Vec<_> = lines.iter().filter(|line| line["target"] == "tidegate::audit").collect();
    let told = |place: usize| {
        let line = audited[place];
        assert!(line["who"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        (line["path"].as_str().unwrap(), line["outcome"].as_str().unwrap(), line["status"].as_u64().unwrap())
    };
    assert_eq!(audited.len(), 3, "{log}");
    assert_eq!(told(0), ("/v1/pipelines/orders/pause", "done", 200));
    assert_eq!(told(1), ("/v1/pipelines/orders/resume", "done", 200));
    assert_eq!(told(2), ("/v1/pipelines/order/pause", "refused", 404));
}

#[test]
fn a_paused_pipeline_ends_at_a_signal_and_goes_on_where_it_stood() {
    let mut run = held(LOOPBACK, &[]);
    run.open();
    assert_eq!(run.post("/v1/pipelines/orders/pause").status, 200);
    let events = orders();
    run.write(&events);
    run.close();
    run.signal("TERM");
    let (site, output) = run.output();
    assert!(output.status.success(), "{}", text(&output));
    std::fs::remove_file(site.path("events.jsonl")).unwrap();
    site.write("events.jsonl", events.join("\n").as_bytes());
    site.configure(ORDERS);
    site.run_well();
    let whole = Site::new(ORDERS);
    whole.write("events.jsonl", events.join("\n").as_bytes());
    whole.run_well();
    let entries = "SELECT key, value FROM tidegate_cache ORDER BY key";
    assert_eq!(site.query("store.db", entries), whole.query("store.db", entries));
}

#[test]
fn a_stranger_gets_nothing_out_of_it() {
    let mut run = held(LOOPBACK, &[]);
    run.open();
    let host = run.address.clone();
    let own = format!("Host: {host}\r\n");
    let raw = |head: &str, body: &str| exchange(&host, format!("{head}\r\n{body}").as_bytes()).status;
    let get = |path: &str, headers: &str| raw(&format!("GET {path} HTTP/1.1\r\n{headers}"), "");
    let post = |headers: &str, body: &str| {
        let path = "/v1/pipelines/orders/pause";
        raw(&format!("POST {path} HTTP/1.1\r\n{own}Content-Length: {}\r\n{headers}", body.len()), body)
    };
    assert_eq!(get("/v1/pipelines", &own), 200);
    // A name that was made to lead here, and none at all.
    assert_eq!(get("/v1/pipelines", "Host: evil.example\r\n"), 421);
    assert_eq!(get("/v1/pipelines", ""), 421);
    // A page of another site, by itself and through a form.
    assert_eq!(get("/v1/config", &format!("{own}Origin: https://evil.example\r\n")), 403);
    assert_eq!(get("/metrics", &format!("{own}Sec-Fetch-Site: cross-site\r\n")), 403);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(post(&format!("{json}Origin: null\r\n"), ""), 403);
    assert_eq!(post("Content-Type: text/plain\r\n", "{}"), 415);
    assert_eq!(post("Content-Type: application/x-www-form-urlencoded\r\n", "a=b"), 415);
    assert_eq!(post("", ""), 415);
    // Ways out of the place.
    for path in ["/v1/../metrics", "/%2e%2e/etc/passwd", "//v1/pipelines", "/v1/dead-letters/..%2f..%2fetc%2fpasswd"] {
        assert_eq!(get(path, &own), 400, "{path}");
    }
    assert_eq!(get("http://evil.example/v1/pipelines", &own), 400);
    assert_eq!(get("/v1/nothing", &own), 404);
    assert_eq!(raw(&format!("DELETE /v1/pipelines HTTP/1.1\r\n{own}{json}"), ""), 405);
    assert_eq!(get("/v1/dead-letters?limit=1000000", &own), 400);
    assert_eq!(get("/v1/dead-letters?nothing=1", &own), 400);
    // A body that is too large: told at once, or found out when it has come so far.
    let head = format!("POST /v1/pipelines/orders/pause HTTP/1.1\r\n{own}{json}");
    assert_eq!(raw(&format!("{head}Content-Length: 65537\r\n"), ""), 413);
    let chunk = format!("10001\r\n{}", " ".repeat(0x10001));
    assert_eq!(raw(&format!("{head}Transfer-Encoding: chunked\r\n"), &chunk), 413);
    // A head that is too large, which is not read to its end.
    let long = format!("GET /v1/pipelines HTTP/1.1\r\n{own}X-Long: {}\r\n\r\n", "x".repeat(64 << 10));
    assert!(try_exchange(&host, long.as_bytes()).is_none_or(|answered| answered.status == 431));
    // None of this has paused anything.
    assert_eq!(run.get("/v1/pipelines").json()["pipelines"][0]["paused"], Value::Bool(false));
    run.end_well();
}

#[test]
fn slow_clients_and_many_of_them_hold_up_nobody_for_long() {
    let mut run = held(&format!("{LOOPBACK}timeout_seconds = 1\n"), &[]);
    run.open();
    let begun = |part: &str| {
        let mut stream = TcpStream::connect(&run.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(part.as_bytes()).unwrap();
        stream
    };
    let head = format!(
        "POST /v1/pipelines/orders/pause HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
        run.address
    );
    // More than are let in at once; some stop in the head, some in the body, some say nothing.
    let slow: Vec<_> = (0..50).flat_map(|_| [begun(""), begun("GET /livez HT"), begun(&head)]).collect();
    run.write(&orders()[..10]);
    assert_eq!(run.get("/livez").status, 200);
    until("ten events", || (run.sum("tidegate_events_total{") == 10).then_some(()));
    for mut stream in slow {
        let mut answer = Vec::new();
        // Cut off, with or without a word, and never paused.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(run.get("/v1/pipelines").json()["pipelines"][0]["paused"], Value::Bool(false));
    run.end_well();
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let site = Site::new(&format!("{ORDERS}[admin]\nlisten = \"0.0.0.0:0\"\n"));
    let output = site.start(&["check", "tidegate.toml"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("admin.listen: 0.0.0.0:0 can be reached from other machines"), "{}", text(&output));

    let mut run = held("[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"correct-horse-battery\"\n", &[]);
    run.open();
    assert_eq!(run.get("/v1/pipelines").status, 401);
    assert_eq!(run.get("/metrics").status, 401);
    assert_eq!(run.post("/v1/pipelines/orders/pause").status, 401);
    // The probes are answered, and tell nothing more.
    assert_eq!(run.get("/livez").status, 200);
    until("ready", || (run.get("/readyz").status == 200).then_some(()));
    assert_eq!(run.get("/readyz").json(), serde_json::json!({ "ready": true }));
    run.token = Some("correct-horse-batterz".into());
    assert_eq!(run.get("/v1/config").status, 401);
    run.token = Some("correct-horse-battery".into());
    let config = run.get("/v1/config");
    assert_eq!(config.status, 200);
    assert_eq!(config.json()["admin"]["token"], "…");
    let log = run.end_well();
    assert!(!log.contains("correct-horse"), "{log}");
    assert!(log.contains("tidegate::audit: refused"), "{log}");
}

#[test]
fn the_command_line_asks_through_the_socket() {
    let mut run = held("[admin]\nlisten = \"unix:admin.sock\"\n", &[]);
    let mode = std::fs::metadata(run.site.path("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    run.open();
    let mut events = orders();
    events.truncate(5);
    events.push(
        r#"{"topic":"dbserver1.public.orders","partition":0,"offset":999999,"key":"{\"id\":\"o1\"}","value":"{"}"#
            .into(),
    );
    run.write(&events);
    let said = |arguments: &[&str]| {
        let output = run.site.start(arguments).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    until("a dead letter", || said(&["dead-letters", "list", "tidegate.toml"]).contains("undecodable").then_some(()));
    let letter = said(&["dead-letters", "show", "tidegate.toml", "dbserver1.public.orders-0@999999"]);
    assert!(letter.contains("fault      undecodable") && letter.ends_with("value      {\n"), "{letter}");
    assert!(said(&["pipelines", "pause", "tidegate.toml", "orders"]).starts_with("orders paused lag=- "));
    assert!(said(&["pipelines", "list", "tidegate.toml"]).starts_with("orders paused"));
    assert!(said(&["pipelines", "resume", "tidegate.toml", "orders"]).starts_with("orders running"));
    // It is counted when the events before it are durable too.
    until("the count", || {
        let json: Value = serde_json::from_str(&said(&["pipelines", "list", "tidegate.toml", "--json"])).unwrap();
        (json["pipelines"][0]["dead_letters"]["undecodable"] == 1).then_some(())
    });

    let unknown = run.site.start(&["pipelines", "pause", "tidegate.toml", "order"]).wait_with_output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains("there is no such pipeline (404 Not Found); "), "{}", text(&unknown));
    // A second program does not take the place of the first.
    let second = run.site.start(&["run", "tidegate.toml"]).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("another program listens there"), "{}", text(&second));
    run.close();
    let (site, output) = run.output();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!site.path("admin.sock").exists());
    let gone = site.start(&["pipelines", "list", "tidegate.toml"]).wait_with_output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone).contains("nobody answers at"), "{}", text(&gone));
    // Dead letters are there also when nobody runs.
    let list = site.start(&["dead-letters", "list", "tidegate.toml"]).wait_with_output().unwrap();
    assert!(text(&list).contains("dead letters: 1 (undecodable 1)"), "{}", text(&list));
}

/// A store that takes connections and never says a word.
const SILENT: &str = r#"
[sinks.silent.redis]
url = "redis://ADDRESS"
timeout_ms = 30000

[engine]
shutdown_seconds = 1
"#;

#[test]
fn an_end_that_takes_too_long_is_cut_short_and_is_told_from_others() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let config = ORDERS.replace("sinks = { cache = \"cache\" }", "sinks = { cache = \"silent\" }");
    let config = config + LOOPBACK + &SILENT.replace("ADDRESS", &address);
    let run = Held::start(&config, &[]);
    let (_connection, _) = silent.accept().unwrap();
    let ready = run.get("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0]["pipeline"], "orders");
    run.signal("TERM");
    let begun = Instant::now();
    let (_, output) = run.output();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(text(&output).contains("was not finished within 1s"), "{}", text(&output));
}

#[test]
fn a_pipeline_that_waits_for_its_store_is_not_ready_and_says_why() {
    let config = ORDERS.replace("sinks = { cache = \"cache\" }", "sinks = { cache = \"away\" }");
    let run = Held::start(&(config + LOOPBACK + "[sinks.away.redis]\nurl = \"redis://127.0.0.1:1\"\n"), &[]);
    let waiting = until("waiting", || {
        let pipelines = run.get("/v1/pipelines").json();
        (pipelines["pipelines"][0]["state"] == "waiting").then_some(pipelines)
    });
    assert_eq!(waiting["pipelines"][0]["waiting"][0]["store"], "sink `away`");
    let ready = run.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("it waits for sink `away`: "), "{}", ready.body);
    assert!(run.get("/metrics").body.contains("tidegate_waiting{pipeline=\"orders\",for=\"sink `away`\"} 1"));
    run.signal("TERM");
    let (_, output) = run.output();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}
