//! The switch of a rewind, among lost answers.

use super::super::Rewind;
use super::*;
use crate::sink::replace::Replacement;

#[tokio::test(flavor = "multi_thread")]
async fn switch_whose_answer_is_lost_with_the_server_for_a_moment_is_known_to_be_done() {
    let server = Server::start(&[]);
    let (owner, proxy, rewind) = begun(&server).await;
    let fresh = rewind.fresh();
    fresh.prepare("p", &declared(&["*"])).await.unwrap();
    fresh.claim(&owner.key, Token(9), 0).await.unwrap();
    let command = set("a", "2");
    let writes = [Write { command: Cow::Borrowed(&command), origins: vec![Origin { offset: 0, transform: 0 }] }];
    let step = Step { key: &owner.key, token: Token(9), from: 0, to: 1, epoch: 0, digest: "d", note: "" };
    assert_eq!(fresh.write(&step, &writes).await.unwrap(), Written::Applied);
    rewind.hold().await.unwrap();
    proxy.cut_behind("RENAME", "OK");
    proxy.then_before("EXISTS");
    let done = loop {
        match rewind.put_in_place().await {
            Err(SinkError::Retry(_)) => {}
            done => break done,
        }
    };
    let value: String = server.ask("GET a");
    assert!(done.is_ok(), "a is {value} now, and the operator is told: {done:?}");
}

#[tokio::test]
async fn hold_that_met_a_lost_connection_holds_every_owner() {
    let server = Server::start(&[]);
    let (mut owner, proxy, rewind) = begun(&server).await;
    proxy.cut_before("HSET");
    let first = rewind.hold().await;
    assert!(matches!(first, Err(SinkError::Retry(_))), "{first:?}");
    // As the rewind does: it tries again until the owners are held.
    while rewind.hold().await.is_err() {}
    assert_eq!(owner.write(&[set("a", "2")]).await, Written::Fenced, "no owner can write any more");
}

/// An owner that has written `a`, and a rewind that has begun behind a proxy.
async fn begun(server: &Server) -> (Run, Proxy, Rewind) {
    let mut owner = Run::new(server.options()).await;
    owner.write(&[set("a", "1")]).await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port()).parse().unwrap());
    let through = Options { url: format!("redis://{}", proxy.address), ..server.options() };
    let rewind = Rewind::open(through, "p").unwrap();
    rewind.discard().await.unwrap();
    rewind.begin(&[]).await.unwrap();
    (owner, proxy, rewind)
}
