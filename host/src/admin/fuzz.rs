//! Fuzzing of the admin API: whatever comes in over a connection, the answer is none or one of ours, nothing fails, and
//! without the token nothing is told or changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::OnceCell;
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::State;
use super::guard::{Access, Peer};
use super::places::Places;
use super::quota::Quotas;
use super::routes::router;
use super::samples::Samples;
use super::server::serve;
use crate::config::Config;
use crate::fuzz::Target;
use crate::pipeline::Observed;
use crate::registry::Registry;

/// An input is what a client sends.
pub(crate) const REQUESTS: Target = Target {
    name: "requests",
    run,
    seeds,
    words: &[
        "GET ",
        "HEAD ",
        "POST ",
        "DELETE ",
        "OPTIONS ",
        "CONNECT ",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "Host: localhost\r\n",
        "Host: evil.example\r\n",
        "Authorization: Bearer 0123456789abcdef\r\n",
        "Authorization: Basic \r\n",
        "Content-Type: application/json\r\n",
        "Content-Length: 2\r\n",
        "Content-Length: 99999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Origin: http://localhost\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "/v1/pipelines",
        "/v1/pipelines/orders/pause",
        "/v1/pipelines/orders/resume",
        "/v1/pipelines/orders/roll-back",
        "/v1/pipelines/orders/history",
        "/v1/pipelines/orders/samples",
        "/v1/modules",
        "/v1/modules/orders/order-cache",
        "/v1/offers/1/promote",
        "/v1/dead-letters",
        "/v1/dead-letters/orders-0@1",
        "/page/page.js",
        "?shadow=by-rule&events=1&seconds=1",
        "?pipeline=orders&fault=store&limit=1",
        "%2e%2e/",
        "%00",
        "%ff",
        "/../",
        "\\",
        "\r\n\r\n",
        "\n\n",
        "0\r\n\r\n",
        "18446744073709551616",
    ],
    most_bytes: 1 << 15,
    runs: 1000,
};

const TOKEN: &str = "0123456789abcdef";

fn seeds() -> Vec<Vec<u8>> {
    let head = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let paths = super::routes::routes().into_iter().map(|route| (route.method, route.path));
    let named = paths.map(|(method, path)| {
        let path =
            path.replace("{pipeline}", "orders").replace("{name}", "orders").replace("{transform}", "order-cache");
        let path = path.replace("{id}", "1").replace("{position}", "orders-0@1").replace("{part}", "page.js");
        format!("{method} {path} HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}").into_bytes()
    });
    named.collect()
}

struct Site {
    runtime: Runtime,
    state: Arc<State>,
    router: Router,
    _folder: TempDir,
}

thread_local! {
    static SITE: OnceCell<Site> = const { OnceCell::new() };
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.wasm"), "").unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let text = "[source.file]\npaths = [\"*.jsonl\"]\n[sinks.s.sqlite]\npath = \"s.db\"\n\
                    [admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"${file:token}\"\nmax_body_mb = 1\n\
                    [[pipelines]]\nname = \"orders\"\ntopics = [\"orders\"]\nsinks = { cache = \"s\" }\n\
                    [[pipelines.transforms]]\nname = \"order-cache\"\nmodule = \"a.wasm\"\n";
        fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        fs::write(folder.path().join("dead-letters.jsonl"), LETTER.replace('\n', "")).unwrap();
        let config = Config::load(&folder.path().join("tidegate.toml")).unwrap();
        let observed = Observed::new(&config);
        let admin = config.admin.as_ref().unwrap();
        let registry = OnceLock::new();
        drop(registry.set(Registry::new(Vec::new())));
        let state = Arc::new(State {
            access: Access::new(&admin.listen, admin.token.as_deref()),
            samples: Samples::new(observed.pipelines().len()),
            observed,
            registry,
            config,
            quotas: Quotas::default(),
            reading: Arc::new(Semaphore::new(1)),
            changing: Semaphore::new(1),
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, router: router(state.clone()), state, _folder: folder }
    }

    /// All that is answered to a client that sends this, and no more.
    fn answer(&self, input: &[u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let peer = Peer::Tcp("127.0.0.1:4000".parse().unwrap());
        let place = Places::default().enter(peer.neighbour());
        self.runtime.block_on(async {
            let talk = async {
                client.write_all(input).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                answer
            };
            tokio::join!(serve(server, peer, place, self.router.clone(), Duration::from_secs(10)), talk).1
        })
    }
}

/// A dead letter as it is filed.
const LETTER: &str = r#"{"topic":"orders","partition":0,"offset":1,"timestamp":null,"headers":[
["__connect.errors.topic","orders"],["__connect.errors.partition","0"],["__connect.errors.offset","1"],
["__connect.errors.stage","TASK_PUT"],["__connect.errors.connector.name","orders"],["tidegate.fault","store"]
],"key":"{\"id\":1}","value":"{\"op\":\"c\",\"after\":{\"id\":1}}"}"#;

fn run(input: &[u8]) {
    SITE.with(|site| {
        let site = site.get_or_init(Site::new);
        let answer = site.answer(input);
        // 503 is `/readyz` before it is ready, and what asks for modules then.
        let status = status(&answer);
        assert!(status.is_none_or(|status| status < 500 || status == 503), "{}", String::from_utf8_lossy(&answer));
        let text = String::from_utf8_lossy(&answer);
        // A client may be told what it has said itself, but not what it has shown.
        let said = String::from_utf8_lossy(input).replace(&format!("earer {TOKEN}"), "");
        assert!(!text.contains(TOKEN) || said.contains(TOKEN), "the token is told: {text}");
        let pipeline = site.state.observed.pipeline("orders").unwrap();
        if memchr::memmem::find(input, TOKEN.as_bytes()).is_none() {
            assert!(!pipeline.is_paused(), "changed without the token");
            assert!(!text.contains("order-cache"), "told without the token: {text}");
        }
        pipeline.pause(false);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && head.to_ascii_lowercase().contains("content-type: application/json")
            && !body.is_empty()
        {
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{text}");
            assert!(head.to_ascii_lowercase().contains("x-content-type-options: nosniff"), "{head}");
        }
    });
}

fn status(answer: &[u8]) -> Option<u16> {
    if answer.is_empty() {
        return None;
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap();
    let line = std::str::from_utf8(line).unwrap();
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")).unwrap();
    Some(status.get(..3).unwrap().parse().unwrap())
}
