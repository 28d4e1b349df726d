//! Modules are offered to a running program over HTTP and by the command line, and every way in which one can be broken
//! is told apart there, while the stream goes on.

use std::fs::File;
use std::time::SystemTime;

use serde_json::{Value, json};
use tidegate_tests::{guest, text};

use super::super::stop::orders;
use super::asked::{Answered, Held, until};

/// Orders into a cache, by a module that does what its bytes say.
const KEEPING: &str = r#"
[source.file]
paths = ["events.jsonl"]
[dead_letters.file]
path = "dead-letters.jsonl"
[engine]
deadline_ms = 1000
[sinks.store.sqlite]
path = "store.db"
[[pipelines]]
name = "keeping"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = { cache = "store", tables = "store" }
breaker = { in_a_row = 100 }
[[pipelines.transforms]]
name = "keep"
module = "keep.wasm"
settings = { describe = { cache_keys = ["k:*"], tables = [{ name = "t", key = ["id"] }] } }
grants = { cache = ["k:*"], tables = ["t"] }
"#;

/// A running program that is given events without end.
struct Keeping {
    run: Held,
    /// The offset of the next event.
    next: usize,
}

impl Keeping {
    fn start(admin: &str) -> Self {
        let run = Held::start_with(&(KEEPING.to_owned() + admin), &[], |site| {
            site.write("keep.wasm", &patched(&json!({})));
        });
        let mut keeping = Self { run, next: 0 };
        keeping.run.open();
        keeping
    }

    /// The next captured events, again from the first after the last, each at an offset of its own.
    fn events(&mut self, count: usize) {
        let orders = orders();
        let next = self.next..self.next + count;
        let events = next.map(|offset| {
            let mut event: Value = serde_json::from_str(&orders[offset % orders.len()]).unwrap();
            event["offset"] = offset.into();
            event.to_string()
        });
        let events: Vec<_> = events.collect();
        self.run.write(&events);
        self.next += count;
    }

    /// Waits until every event is durable.
    fn settle(&self) {
        until("the events", || (self.run.sum("tidegate_events_total{") == self.next as u64).then_some(()));
    }

    fn offer(&self, id: &Value) -> Value {
        self.run.get(&format!("/v1/offers/{id}")).json()
    }

    /// Uploads, and waits until it has been looked at.
    fn upload(&self, module: &[u8], query: &str) -> Value {
        let taken = self.run.upload(&format!("/v1/modules/keeping/keep{query}"), module);
        assert_eq!(taken.status, 202, "{}", taken.body);
        let id = taken.json()["id"].clone();
        until("a look at it", || Some(self.offer(&id)).filter(|offer| offer["state"] != "checking"))
    }

    /// Uploads to be compared, and gives events until the comparison has ended.
    fn compare(&mut self, patch: &Value, query: &str) -> Value {
        let begun = self.upload(&patched(patch), query);
        assert_eq!(begun["state"], "shadow", "{begun}");
        until("the end of the comparison", || {
            self.events(10);
            Some(self.offer(&begun["id"])).filter(|offer| offer["state"] != "shadow")
        })
    }

    fn module(&self) -> Value {
        self.run.get("/v1/modules").json()["modules"][0].clone()
    }
}

/// The hostile guest with other settings in its bytes: another module.
pub(crate) fn patched(patch: &Value) -> Vec<u8> {
    let mut bytes = std::fs::read(guest("hostile")).unwrap();
    let at = bytes.windows(17).position(|window| window == b"{\"tidegate-patch\"").unwrap();
    let patch = patch.to_string();
    bytes[at..at + 256].fill(b' ');
    bytes[at..at + patch.len()].copy_from_slice(patch.as_bytes());
    bytes
}

fn reason(offer: &Value) -> &str {
    offer["reason"].as_str().unwrap_or_else(|| panic!("{offer}"))
}

#[test]
fn a_broken_module_is_told_apart_and_the_stream_goes_on() {
    let mut keeping = Keeping::start("[admin]\nlisten = \"127.0.0.1:0\"\n");
    keeping.events(20);
    keeping.settle();
    let good = keeping.module()["digest"].clone();

    // What never comes to serve.
    let described = |key: &str| json!({"describe": {"cache_keys": ["k:*"], "tables": [{"name": "t", "key": [key]}]}});
    let refused: [(&[u8], &str); 6] = [
        (b"<html>", "not WebAssembly"),
        (&patched(&json!({}))[..10_000], "damaged or cut off"),
        (b"\0asm\x01\0\0\0", "is no transform"),
        (&patched(&json!({"start": "trap"})), "cannot start"),
        (&patched(&json!({"describe": {"cache_keys": ["secret:*"]}})), "secret:*"),
        (&patched(&described("other")), "declares the key (other) of table `t`"),
    ];
    for (module, why) in refused {
        let offer = keeping.upload(module, "");
        assert_eq!(offer["state"], "refused", "{offer}");
        assert!(reason(&offer).contains(why), "{offer}");
    }

    // What fails once it serves, from the tenth event of the next ones on.
    for (deed, why) in
        [("trap", "unreachable"), ("loop", "deadline"), ("allocate", "cannot serve"), ("reject", "rejected")]
    {
        let at: Vec<_> = (keeping.next + 10..keeping.next + 70).filter(|at| deed == "reject" || at % 60 == 0).collect();
        let at = if deed == "reject" { Value::Null } else { at.into() };
        let offer = keeping.upload(&patched(&json!({"do": deed, "at": at})), "");
        assert_eq!(offer["state"], "serving", "{offer}");
        keeping.events(100);
        keeping.settle();
        let offer = keeping.offer(&offer["id"]);
        assert_eq!(offer["state"], "rolled-back", "{offer}");
        assert!(reason(&offer).contains(why), "{deed}: {offer}");
        // The offer is told apart a moment before the modules of before are shown as serving.
        let module = until("the good module to serve", || Some(keeping.module()).filter(|one| one["digest"] == good));
        assert_eq!(module["before"]["failure"], offer["reason"]);
    }

    // What shows in a comparison.
    let differs = keeping.compare(&json!({"do": "many"}), "?shadow=by-rule&events=50");
    assert_eq!(differs["state"], "refused", "{differs}");
    assert!(reason(&differs).contains("differently"), "{differs}");
    let difference = &differs["differences"][0];
    assert!(difference["serving"].as_str().unwrap().contains("k:"), "{differs}");
    assert_ne!(difference["serving"], difference["candidate"]);
    let slow = keeping.compare(&json!({"do": "toil"}), "?shadow=by-rule&events=50");
    assert_eq!(slow["state"], "refused", "{slow}");
    assert!(reason(&slow).contains("5 times as long is allowed"), "{slow}");
    let fails = keeping.compare(&json!({"do": "trap"}), "?shadow=by-rule&events=50");
    assert!(reason(&fails).contains("fails where what serves does not"), "{fails}");
    keeping.settle();

    let module = keeping.module();
    assert_eq!(module["digest"], good);
    assert_eq!(module["offers"].as_array().unwrap().len(), 13);
    let counted = |outcome: &str| {
        keeping.run.sum(&format!("tidegate_module_exchanges_total{{pipeline=\"keeping\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((counted("promoted"), counted("failed"), counted("refused")), (4, 4, 9));
    let pipeline = keeping.run.get("/v1/pipelines").json()["pipelines"][0].clone();
    assert_eq!(pipeline["state"], "running");
    let letters = pipeline["dead_letters"].as_object().unwrap().values().map(|count| count.as_u64().unwrap());
    assert!(letters.sum::<u64>() < 50, "{pipeline}");
    let log = keeping.run.end_well();
    assert!(log.contains("a new module is refused") && log.contains("the modules before serve again"), "{log}");
}

#[test]
fn a_module_is_compared_promoted_and_rolled_back() {
    let mut keeping = Keeping::start("[admin]\nlisten = \"127.0.0.1:0\"\n");
    keeping.events(10);
    keeping.settle();
    let first = keeping.module()["digest"].clone();
    assert_eq!(keeping.module()["before"], Value::Null);
    assert_eq!(keeping.run.post("/v1/pipelines/keeping/roll-back").status, 409);

    let waits = keeping.compare(&json!({"do": "nothing"}), "?shadow=by-hand&events=30");
    assert_eq!(waits["state"], "waits", "{waits}");
    let comparison = &waits["comparison"];
    assert!(comparison["different"].as_u64() >= Some(30) && comparison["different"] == comparison["events"], "{waits}");
    assert_eq!(waits["differences"].as_array().unwrap().len(), 20);
    assert_eq!(keeping.module()["digest"], first);

    let path = |what: &str| format!("/v1/offers/{}/{what}", waits["id"]);
    let promoted = keeping.run.post(&path("promote"));
    assert_eq!((promoted.status, &promoted.json()["state"]), (200, &"serving".into()));
    assert_eq!(keeping.run.post(&path("promote")).status, 409);
    assert_eq!(keeping.run.post(&path("discard")).status, 409);
    keeping.settle();
    let kept = keeping.run.site.query("store.db", "SELECT count(*) FROM tidegate_cache");
    keeping.events(10);
    keeping.settle();
    assert_eq!(keeping.run.site.query("store.db", "SELECT count(*) FROM tidegate_cache"), kept);

    // The same again is what serves already.
    let again = keeping.run.upload("/v1/modules/keeping/keep", &patched(&json!({"do": "nothing"})));
    assert_eq!((again.status, &again.json()["state"]), (200, &"serving".into()));

    let back = keeping.run.post("/v1/pipelines/keeping/roll-back");
    assert_eq!((back.status, &back.json()["transforms"][0]["digest"]), (200, &first));
    let left = keeping.offer(&waits["id"]);
    assert_eq!((&left["state"], reason(&left)), (&"rolled-back".into(), "it was rolled back by hand"));
    keeping.events(1);
    keeping.settle();
    assert_ne!(keeping.run.site.query("store.db", "SELECT count(*) FROM tidegate_cache"), kept);
    keeping.run.end_well();
}

#[test]
fn the_file_takes_the_place_of_an_upload_only_when_it_holds_something_new() {
    let mut keeping = Keeping::start("[admin]\nlisten = \"127.0.0.1:0\"\n");
    keeping.events(1);
    keeping.settle();
    let uploaded = keeping.upload(&patched(&json!({"do": "nothing"})), "");
    assert_eq!(uploaded["state"], "serving");
    // Touched, and as it was; then a bad one, so that the touch has been seen; then a good one.
    let file = keeping.run.site.path("keep.wasm");
    File::options().append(true).open(&file).unwrap().set_modified(SystemTime::now()).unwrap();
    let newest = |keeping: &Keeping, from: &str, state: &str| {
        until("the file's offer", || {
            let offer = keeping.module()["offers"][0].clone();
            (offer["from"] == from && offer["state"] == state).then_some(())
        });
    };
    keeping.run.site.write("keep.wasm", b"<html>");
    newest(&keeping, "file", "refused");
    assert_eq!(keeping.module()["digest"], uploaded["digest"]);
    keeping.run.site.write("keep.wasm", &patched(&json!({"version": 2})));
    newest(&keeping, "file", "serving");
    assert_eq!(keeping.offer(&uploaded["id"])["state"], "replaced");
    keeping.run.end_well();
}

#[test]
fn refused_uploads_with_long_names_hold_no_memory() {
    let keeping = Keeping::start("[admin]\nlisten = \"127.0.0.1:0\"\n");
    let describe = |n: usize| json!({ "n": n, "describe": { "name": "long", "long": [600, 100_000] } });
    let before = keeping.run.resident();
    for n in 0..6 {
        let offer = keeping.upload(&patched(&describe(n)), "");
        assert!(offer["state"] == "refused" && reason(&offer).len() < 10_000, "{offer:.500}");
    }
    let grown = keeping.run.resident().saturating_sub(before);
    assert!(grown < 200, "six refused uploads hold {grown} MiB");
    assert!(keeping.run.get("/v1/modules").body.len() < 100_000);
    let log = keeping.run.end_well();
    assert!(log.len() < 200_000, "the log has {} bytes", log.len());
}

#[test]
fn an_upload_that_cannot_be_one_is_refused() {
    let mut keeping = Keeping::start("[admin]\nlisten = \"127.0.0.1:0\"\nmax_body_mb = 1\n");
    keeping.events(1);
    keeping.settle();
    let status = |path: &str, module: &[u8]| {
        let Answered { status, body, .. } = keeping.run.upload(path, module);
        assert!(status >= 400 && body.contains("remedy"), "{path}: {body}");
        status
    };
    assert_eq!(status("/v1/modules/other/keep", b"x"), 404);
    assert_eq!(status("/v1/modules/keeping/other", b"x"), 404);
    assert_eq!(status("/v1/modules/keeping/keep?shadow=maybe", b"x"), 400);
    assert_eq!(status("/v1/modules/keeping/keep?shadow=no&events=1", b"x"), 400);
    assert_eq!(status("/v1/modules/keeping/keep?events=1", b"x"), 400);
    assert_eq!(status("/v1/modules/keeping/keep?shadow=by-hand&seconds=0", b"x"), 400);
    assert_eq!(status("/v1/modules/keeping/keep", &vec![0; (1 << 20) + 1]), 413);
    assert_eq!(keeping.run.get("/v1/offers/1").status, 404);
    assert_eq!(keeping.run.get("/v1/offers/one").status, 400);
    assert_eq!(keeping.run.post("/v1/offers/1/promote").status, 404);
    assert_eq!(keeping.run.post("/v1/pipelines/other/roll-back").status, 404);
    assert_eq!(keeping.module()["offers"], json!([]));
    keeping.run.end_well();
}

#[test]
fn the_command_line_exchanges_modules() {
    let mut keeping = Keeping::start("[admin]\nlisten = \"unix:admin.sock\"\n");
    let site = &keeping.run.site;
    for (name, patch) in [("other.wasm", json!({"do": "nothing"})), ("bad.wasm", json!({"start": "trap"}))] {
        site.write(name, &patched(&patch));
    }
    let ask = |run: &Held, arguments: &[&str]| {
        let output = run.site.start(&[&["modules"], arguments].concat()).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), text(&output))
    };
    let said = |run: &Held, arguments: &[&str]| {
        let (code, said, all) = ask(run, arguments);
        assert_eq!(code, Some(0), "{all}");
        said
    };
    keeping.events(5);
    let list =
        until("the list", || Some(ask(&keeping.run, &["list", "tidegate.toml"])).filter(|(code, ..)| *code == Some(0)));
    assert!(list.1.starts_with("keeping keep sha256:"), "{}", list.1);
    let upload = ["upload", "tidegate.toml", "keeping", "keep"];
    let bad = ask(&keeping.run, &[&upload[..], &["bad.wasm"]].concat());
    assert!(bad.0 == Some(1) && bad.2.contains("1 refused sha256:") && bad.2.contains("cannot start"), "{}", bad.2);
    let shadow = said(&keeping.run, &[&upload[..], &["other.wasm", "--shadow", "by-hand", "--events", "20"]].concat());
    assert!(shadow.starts_with("2 shadow sha256:"), "{shadow}");
    until("the end of the comparison", || {
        keeping.events(10);
        said(&keeping.run, &["list", "tidegate.toml"]).contains("  2 waits sha256:").then_some(())
    });
    let differences = said(&keeping.run, &["differences", "tidegate.toml", "2"]);
    assert!(differences.contains("\n  serving   [") && differences.contains("\n  candidate []"), "{differences}");
    let promoted = said(&keeping.run, &["promote", "tidegate.toml", "2"]);
    assert!(promoted.starts_with("2 serving sha256:"), "{promoted}");
    let back = said(&keeping.run, &["roll-back", "tidegate.toml", "keeping"]);
    assert_eq!(back, list.1);
    let at_once = said(&keeping.run, &[&upload[..], &["other.wasm", "--shadow", "no"]].concat());
    assert!(at_once.starts_with("3 serving sha256:"), "{at_once}");
    let nothing = ask(&keeping.run, &["promote", "tidegate.toml", "9"]);
    assert!(nothing.0 == Some(1) && nothing.2.contains("there is no such offer (404 Not Found); "), "{}", nothing.2);
    keeping.run.close();
    let (_, output) = keeping.run.output();
    assert!(output.status.success(), "{}", text(&output));
}
