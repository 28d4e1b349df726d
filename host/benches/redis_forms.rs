//! The forms in which a batch and its ledger can reach Redis, side by side in one run: bare pipelines, which keep no
//! fence; `WATCH`, `MULTI`, `EXEC`, with the watch for the next batch right behind `EXEC` or in a round trip of its
//! own; a script that compares and applies. Each with a command an entry, and with the entries of a batch together.
//!
//! The forms take turns, a batch each, so that whatever else the machine does meets all of them; the figure is the
//! median. Batches of 500 entries of 350 bytes, on one connection.
//!
//! `REDIS_URL=redis://127.0.0.1:6379/9 cargo bench -p tidegate --bench redis_forms`: the database is filled with entries.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use redis::{Client, Connection, Pipeline, Script, Value};

const TURNS: usize = 400;
const ENTRIES: usize = 500;
const LEDGER: &str = "tidegate:bench:ledger:store:topic:0";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The keys that a turn writes; few enough to be written again and again.
fn keys(turn: usize) -> Vec<String> {
    (0..ENTRIES).map(|entry| format!("order:{}", (turn * ENTRIES + entry) % 20_000)).collect()
}

#[derive(Clone, Copy)]
enum Entries {
    Each,
    Together,
    Expiring,
}

fn entries(pipeline: &mut Pipeline, how: Entries, keys: &[String], value: &str) {
    match how {
        Entries::Each => keys.iter().for_each(|key| {
            pipeline.cmd("SET").arg(key).arg(value);
        }),
        Entries::Expiring => keys.iter().for_each(|key| {
            pipeline.cmd("SET").arg(key).arg(value).arg("EX").arg(600);
        }),
        Entries::Together => {
            pipeline.cmd("MSET");
            keys.iter().for_each(|key| {
                pipeline.arg(key).arg(value);
            });
        }
    }
}

fn advance(pipeline: &mut Pipeline, to: usize) {
    pipeline.cmd("HSET").arg(LEDGER).arg("token").arg(TOKEN).arg("next").arg(to);
    pipeline.arg("digest").arg("sha256:0000").arg("note").arg("").arg("updated_at").arg(1_790_000_000_000_u64);
}

fn bare(connection: &mut Connection, how: Entries, turn: usize, value: &str) {
    let mut pipeline = Pipeline::new();
    entries(&mut pipeline, how, &keys(turn), value);
    pipeline.query::<Vec<Value>>(connection).unwrap();
}

fn watch(pipeline: &mut Pipeline) {
    pipeline.cmd("WATCH").arg(LEDGER).cmd("HMGET").arg(LEDGER).arg("token").arg("next");
}

fn watched(connection: &mut Connection, how: Entries, turn: usize, value: &str, ahead: bool) {
    if !ahead {
        let mut look = Pipeline::new();
        watch(&mut look);
        look.query::<Vec<Value>>(connection).unwrap();
    }
    let mut pipeline = Pipeline::new();
    pipeline.cmd("MULTI");
    entries(&mut pipeline, how, &keys(turn), value);
    advance(&mut pipeline, turn);
    pipeline.cmd("EXEC");
    if ahead {
        watch(&mut pipeline);
    }
    let answers = pipeline.query::<Vec<Value>>(connection).unwrap();
    assert!(answers.iter().any(|answer| matches!(answer, Value::Array(_))), "not executed");
}

/// The ledger as one string instead of a hash.
fn packed(connection: &mut Connection, turn: usize, value: &str) {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("MULTI");
    entries(&mut pipeline, Entries::Together, &keys(turn), value);
    pipeline.cmd("SET").arg("tidegate:packed").arg(format!("{TOKEN} {turn} sha256:0000 1790000000000 "));
    pipeline.cmd("EXEC").cmd("WATCH").arg("tidegate:packed").cmd("GET").arg("tidegate:packed");
    pipeline.query::<Vec<Value>>(connection).unwrap();
}

const COMPARE: &str = "
    local row = redis.call('HMGET', KEYS[1], 'token', 'next')
    if row[1] ~= ARGV[1] then return row end";
const MOVE: &str = "
    redis.call('HSET', KEYS[1], 'token', ARGV[1], 'next', ARGV[2], 'digest', ARGV[3], 'note', '', 'updated_at', ARGV[4])
    return 1";

fn script(how: Entries) -> Script {
    let apply = match how {
        Entries::Each => "for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 3]) end",
        Entries::Expiring => "for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 3], 'EX', 600) end",
        Entries::Together => {
            "local all = {} for i = 2, #KEYS do all[2 * i - 3] = KEYS[i] all[2 * i - 2] = ARGV[i + 3] end
             redis.call('MSET', unpack(all))"
        }
    };
    Script::new(&format!("{COMPARE}\n{apply}\n{MOVE}"))
}

fn scripted(connection: &mut Connection, script: &Script, turn: usize, value: &str) {
    let mut call = script.key(LEDGER);
    keys(turn).iter().for_each(|key| {
        call.key(key);
    });
    call.arg(TOKEN).arg(turn).arg("sha256:0000").arg(1_790_000_000_000_u64);
    (0..ENTRIES).for_each(|_| {
        call.arg(value);
    });
    assert_eq!(call.invoke::<i64>(connection).unwrap(), 1);
}

fn main() {
    // `cargo test --benches` builds and starts it without this, to see that it starts.
    let Ok(url) = std::env::var("REDIS_URL") else {
        println!("set REDIS_URL to a server that may be filled");
        return;
    };
    let client = Client::open(url).unwrap();
    let value = format!("{{\"text\":\"{}\"}}", "x".repeat(339));
    let scripts = [Entries::Each, Entries::Together, Entries::Expiring].map(script);
    let [each, together, expiring] = &scripts;
    type Form<'a> = (&'a str, Box<dyn Fn(&mut Connection, usize) + 'a>);
    let (one, all, ttl) = (Entries::Each, Entries::Together, Entries::Expiring);
    let value = value.as_str();
    let forms: Vec<Form<'_>> = vec![
        ("SET      bare", Box::new(move |c, turn| bare(c, one, turn, value))),
        ("SET      watched, watch ahead", Box::new(move |c, turn| watched(c, one, turn, value, true))),
        ("SET      watched, two trips", Box::new(move |c, turn| watched(c, one, turn, value, false))),
        ("SET      script", Box::new(move |c, turn| scripted(c, each, turn, value))),
        ("MSET     bare", Box::new(move |c, turn| bare(c, all, turn, value))),
        ("MSET     watched, watch ahead", Box::new(move |c, turn| watched(c, all, turn, value, true))),
        ("MSET     watched, ledger packed", Box::new(move |c, turn| packed(c, turn, value))),
        ("MSET     watched, two trips", Box::new(move |c, turn| watched(c, all, turn, value, false))),
        ("MSET     script", Box::new(move |c, turn| scripted(c, together, turn, value))),
        ("SET EX   bare", Box::new(move |c, turn| bare(c, ttl, turn, value))),
        ("SET EX   watched, watch ahead", Box::new(move |c, turn| watched(c, ttl, turn, value, true))),
        ("SET EX   script", Box::new(move |c, turn| scripted(c, expiring, turn, value))),
    ];
    let mut setup = Pipeline::new();
    advance(&mut setup, 0);
    setup.query::<Vec<Value>>(&mut client.get_connection().unwrap()).unwrap();
    let mut connections: Vec<Connection> = forms.iter().map(|_| client.get_connection().unwrap()).collect();
    let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(TURNS); forms.len()];
    for turn in 0..TURNS {
        for (((_, form), connection), times) in forms.iter().zip(&mut connections).zip(&mut times) {
            // Another form has moved the ledger: watch it anew, as a watch ahead would have been left.
            let mut look = Pipeline::new();
            look.cmd("UNWATCH");
            watch(&mut look);
            look.query::<Vec<Value>>(connection).unwrap();
            let begun = Instant::now();
            form(connection, turn);
            times.push(begun.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let base = median(&mut times[0]);
    for ((name, _), times) in forms.iter().zip(&mut times) {
        let median = median(times);
        let (rate, micros) = (ENTRIES as f64 / median, median * 1e6);
        println!("{name:32} {micros:7.0} µs a batch  {rate:9.0} entries/s  {:4.2} of bare SET", base / median);
    }
}
