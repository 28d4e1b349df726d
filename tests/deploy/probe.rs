//! `tidegate probe`, as a kubelet runs it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output};
use std::thread;

use tidegate_tests::{Site, text};

/// Which waits for its store for ever: nobody listens on the port.
const WAITS: &str = r#"
[source.file]
paths = ["events.jsonl"]
[sinks.cache.redis]
url = "redis://127.0.0.1:1"
[[pipelines]]
name = "orders"
topics = ["dbserver1.public.orders"]
sinks = { cache = "cache" }
[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }
[admin]
"#;

fn probe(site: &Site, what: &str, listen: &str) -> (Option<i32>, String) {
    let output = site.start(&["probe", what, listen]).wait_with_output().unwrap();
    (output.status.code(), text(&output))
}

struct Running {
    site: Site,
    child: Child,
    address: String,
    _events: File,
}

impl Running {
    /// Starts it with events that never come, and waits until it listens.
    fn start(configuration: &str) -> Self {
        let site = Site::new(configuration);
        assert!(Command::new("mkfifo").arg(site.path("events.jsonl")).status().unwrap().success());
        let events = File::options().read(true).write(true).open(site.path("events.jsonl")).unwrap();
        let mut child = site.start(&["run", "tidegate.toml"]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("the admin API listens"))).unwrap();
        let address = line.rsplit("address=\"").next().unwrap().split('"').next().unwrap().to_owned();
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { site, child, address, _events: events }
    }

    /// Ends it as it is.
    fn end(mut self) -> (Site, Output) {
        self.child.kill().unwrap();
        (self.site, self.child.wait_with_output().unwrap())
    }
}

#[test]
fn a_program_that_waits_for_its_store_lives_and_is_not_ready() {
    let run = Running::start(&format!("{WAITS}listen = \"unix:admin\"\n"));
    assert_eq!(probe(&run.site, "live", "unix:admin").0, Some(0));
    let (code, said) = probe(&run.site, "ready", "unix:admin");
    assert!(code == Some(1) && said.contains("\"ready\":false"), "{said}");
    let (site, _) = run.end();
    // Its socket is still there, and nobody behind it.
    let (code, said) = probe(&site, "live", "unix:admin");
    assert!(code == Some(1) && said.contains("error: nobody answers at unix:admin: "), "{said}");
}

#[test]
fn a_program_whose_stores_are_there_is_ready() {
    let configuration = WAITS.replace("[sinks.cache.redis]\nurl = \"redis://127.0.0.1:1\"", "[sinks.cache.null]");
    let run = Running::start(&format!("{configuration}listen = \"unix:admin\"\n"));
    while probe(&run.site, "ready", "unix:admin").0 != Some(0) {
        thread::yield_now();
    }
    run.end();
}

#[test]
fn it_needs_no_token() {
    let admin = "listen = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n";
    let run = Running::start(&format!("{WAITS}{admin}"));
    assert_eq!(probe(&run.site, "live", &run.address).0, Some(0));
    // Who shows none learns no reason.
    let (code, said) = probe(&run.site, "ready", &run.address);
    assert!(code == Some(1) && said.contains("{\"ready\":false}"), "{said}");
    run.end();
}

#[test]
fn an_address_that_is_none_is_an_error_of_the_command_line() {
    let site = Site::new("");
    let (code, said) = probe(&site, "live", "localhost");
    assert!(code == Some(2) && said.contains("error: `localhost` is no address: write "), "{said}");
}
