//! A rewind among lost answers, late writes and other processes; a cache that two processes clear.

use super::super::Rewind;
use super::*;
use crate::sink::replace::Replacement;

#[tokio::test(flavor = "multi_thread")]
async fn switch_whose_answer_is_lost_with_the_server_for_a_moment_is_known_to_be_done() {
    let server = Server::start(&[]);
    let (owner, proxy, rewind) = begun(&server).await;
    fill(&owner, &rewind).await;
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

/// Has the fill set `a`, as the only entry.
async fn fill(owner: &Run, rewind: &Rewind) {
    let fresh = rewind.fresh();
    fresh.prepare("p", &declared(&["*"])).await.unwrap();
    fresh.claim(&owner.key, Token(9), 0).await.unwrap();
    assert_eq!(write_fresh(fresh.as_ref(), &owner.key, 0, &set("a", "2")).await, Written::Applied);
}

async fn write_fresh(fresh: &dyn Sink, key: &LedgerKey, from: u64, command: &Command) -> Written {
    let writes = [Write { command: Cow::Borrowed(command), origins: vec![Origin { offset: from, transform: 0 }] }];
    let step = Step { key, token: Token(9), from, to: from + 1, epoch: 0, digest: "d", note: "" };
    fresh.write(&step, &writes).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn late_write_of_the_fill_changes_nothing() {
    let server = Server::start(&[]);
    let (owner, proxy, rewind) = begun(&server).await;
    fill(&owner, &rewind).await;
    rewind.hold().await.unwrap();
    let (handle, key, fresh) = (tokio::runtime::Handle::current(), owner.key.clone(), rewind.fresh());
    let (late, written) = std::sync::mpsc::channel();
    // What the fill had sent, and gave up at its end, arrives just before the switch.
    proxy.before("RENAME", move || {
        late.send(handle.block_on(write_fresh(fresh.as_ref(), &key, 1, &set("b", "new")))).unwrap();
    });
    rewind.put_in_place().await.unwrap();
    assert_eq!(written.recv().unwrap(), Written::Fenced);
    let (next, there): (u64, i64) = (server.ask("HGET tidegate:p:ledger:store:t:0 next"), server.ask("EXISTS b"));
    assert_eq!((next, there), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_of_an_overtaken_rewind_changes_nothing() {
    let server = Server::start(&[]);
    let (owner, _proxy, first) = begun(&server).await;
    fill(&owner, &first).await;
    // The other one begins before this one holds the owners.
    let other = Rewind::open(server.options(), "p").unwrap();
    other.discard().await.unwrap();
    first.hold().await.unwrap();
    let switched = first.put_in_place().await;
    assert!(matches!(switched, Err(SinkError::Stop(_))), "{switched:?}");
    assert_eq!(server.ask::<String>("GET a"), "1");
    first.release().await.unwrap();
    // What it removes as it ends is its own alone.
    other.begin(&[]).await.unwrap();
    fill(&owner, &other).await;
    assert!(first.discard().await.unwrap().is_empty());
    other.hold().await.unwrap();
    other.put_in_place().await.unwrap();
    assert_eq!(server.ask::<String>("GET a"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn rewind_waits_for_another_that_is_put_in_place() {
    let server = Server::start(&[]);
    let (owner, _proxy, first) = begun(&server).await;
    fill(&owner, &first).await;
    first.hold().await.unwrap();
    let other = Rewind::open(server.options(), "p").unwrap();
    let discarded = other.discard().await;
    assert!(matches!(discarded, Err(SinkError::Retry(_))), "{discarded:?}");
    first.put_in_place().await.unwrap();
    assert_eq!(server.ask::<String>("GET a"), "2");
    other.discard().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_that_is_cut_short_takes_nothing_from_a_new_fill() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port()).parse().unwrap());
    let through = Options { url: format!("redis://{}", proxy.address), ..server.options() };
    let mut first = Run::new(server.options()).await;
    first.write(&[set("old", "1")]).await;
    let second = Redis::open(through).unwrap();
    // Somebody deletes the ledger's head; both processes want to clear the cache.
    let _: i64 = server.ask("DEL tidegate:p:head:store");
    let keys = ["*".to_owned()];
    let handle = tokio::runtime::Handle::current();
    let (other, tried) = std::sync::mpsc::channel();
    proxy.before("SCAN", move || {
        handle.block_on(async {
            let cleared = first.sink.clear_cache("p", &["*".to_owned()]).await;
            let claimed = first.sink.claim(&first.key, first.token, 0).await;
            other.send((cleared, claimed.map(drop), first)).unwrap();
        });
    });
    // It ends before it has come to the entries.
    proxy.cut_before("MATCH\r\n$1\r\n*");
    assert!(second.clear_cache("p", &keys).await.is_err());
    let (cleared, claimed, mut first) = tried.recv().unwrap();
    assert!(matches!(cleared, Err(SinkError::Retry(_))), "{cleared:?}");
    assert!(matches!(claimed, Err(SinkError::Retry(_))), "{claimed:?}");
    // Its turn ends by itself; the next one finds no head, and clears all.
    assert!(!first.sink.knows("p").await.unwrap());
    let _: i64 = server.ask("DEL tidegate:p:clearing:store");
    first.sink.clear_cache("p", &keys).await.unwrap();
    assert_eq!(server.ask::<i64>("EXISTS old"), 0);
    first.next = first.sink.claim(&first.key, first.token, 0).await.unwrap().next;
    assert_eq!((first.next, first.write(&[set("k", "1")]).await), (0, Written::Applied));
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_that_another_process_has_cleared_is_not_cleared_again() {
    let server = Server::start(&[]);
    let mut first = Run::new(server.options()).await;
    first.write(&[set("old", "1")]).await;
    let second = Redis::open(server.options()).unwrap();
    let keys = ["*".to_owned()];
    let _: i64 = server.ask("DEL tidegate:p:head:store");
    let _: String = server.ask("SET tidegate:p:clearing:store another");
    assert!(matches!(second.clear_cache("p", &keys).await, Err(SinkError::Retry(_))));
    let _: i64 = server.ask("DEL tidegate:p:clearing:store");
    first.sink.clear_cache("p", &keys).await.unwrap();
    first.next = first.sink.claim(&first.key, first.token, 0).await.unwrap().next;
    first.write(&[set("k", "1")]).await;
    second.clear_cache("p", &keys).await.unwrap();
    assert_eq!(first.write(&[set("k", "2")]).await, Written::Applied);
}
