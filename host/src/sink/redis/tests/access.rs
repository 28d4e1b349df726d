//! Who may come in, by which way, and what is said before anything is written.

use super::*;

#[tokio::test]
async fn a_user_needs_no_more_than_the_remedy_says() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >secret");
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    let options = Options { url, ..server.options() };
    let sink = Redis::open(options.clone()).unwrap();
    let keys = declared(&["order:*", "all"]);
    let told = stopped(sink.prepare("p", &keys).await);
    assert!(!told.contains("secret"), "{told}");
    assert!(sink.inspect("p", &keys).await.unwrap().faults[0].contains("ACL SETUSER app"));
    let remedy = told.split('`').nth(1).unwrap().replace('\'', "");
    server.ask::<()>(&remedy);
    assert_eq!(sink.inspect("p", &keys).await.unwrap(), Inspection::default());
    sink.prepare("p", &keys).await.unwrap();
    let key = LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
    sink.claim(&key, Token(1), 0).await.unwrap();
    let mut run = Run { sink, key, token: Token(1), next: 0 };
    let commands = [set("order:1", "{}"), merge("all", "{}", None), merge("order:2", "{}", Some(1)), delete("order:3")];
    assert_eq!(run.write(&commands).await, Written::Applied);
    run.sink.clear_cache("p", &["order:*".into(), "all".into()]).await.unwrap();
    // What is not the user's is found before anything is changed.
    run.sink.claim(&run.key, Token(1), 0).await.unwrap();
    run.next = 0;
    let told = stopped(run.attempt(&[set("order:1", "1"), set("theirs", "1")]).await);
    assert!(told.contains("NOPERM") && told.contains("ACL SETUSER"), "{told}");
    assert_eq!(server.ask::<i64>("EXISTS order:1"), 0);
}

#[tokio::test]
async fn who_may_not_come_in_is_told_without_the_password() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >right ~* +@all");
    let sink = |url: String| Redis::open(Options { url, ..server.options() });
    let port = server.port();
    for url in [format!("redis://app:hushed@127.0.0.1:{port}"), format!("redis://app:right@127.0.0.1:{port}/99")] {
        let told = stopped(sink(url).unwrap().knows("p").await);
        assert!(told.contains("url") && !told.contains("hushed") && !told.contains("right@"), "{told}");
    }
    server.ask::<()>("CONFIG SET requirepass hushed");
    assert!(stopped(sink(server.url()).unwrap().knows("p").await).contains("NOAUTH"));
    let told = retried(sink("redis://app:hushed@127.0.0.1:1".into()).unwrap().knows("p").await);
    assert!(told.contains("127.0.0.1:1") && !told.contains("hushed"), "{told}");
    let told = stopped(sink("redis//app:hushed@x".into()));
    assert!(told.contains("redis://") && !told.contains("hushed"), "{told}");
    assert!(!format!("{:?}", sink(format!("redis://app:hushed@127.0.0.1:{port}")).unwrap()).contains("hushed"));
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_tried_again() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >secret ~* +@all");
    let _held = server.look();
    server.ask::<()>("CONFIG SET maxclients 1");
    for user in ["", "app:secret@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        retried(Redis::open(Options { url, ..server.options() }).unwrap().knows("p").await);
    }
}

#[tokio::test]
async fn a_granted_beginning_is_cleared_as_it_is_written() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let keys = ["a[b]*:1", "ab:1", "a[b]:1", "a[b]*", "x?y\\:1", "xzy\\:1", "^-:1"];
    assert_eq!(run.write(&keys.map(|key| set(key, "1"))).await, Written::Applied);
    run.sink.clear_cache("p", &["a[b]*:*".into(), "x?y\\*".into(), "^-*".into()]).await.unwrap();
    assert_eq!(server.ask::<Vec<Option<i32>>>("MGET ab:1 a[b]:1 a[b]* xzy\\:1"), [Some(1); 4]);
    // Beside them the head, and the history in two keys.
    assert_eq!(server.ask::<i64>("DBSIZE"), 4 + 3);
}

#[tokio::test]
async fn a_socket_and_a_database_can_be_named() {
    let server = Server::start(&[]);
    let url = format!("unix://{}?db=3", server.socket().display());
    let mut run = Run::new(Options { url, ..server.options() }).await;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);
    assert!(server.ask::<String>("INFO keyspace").contains("db3:keys=5"));
}

#[tokio::test]
async fn tls_wants_the_certificates_that_it_was_told() {
    let server = Server::start_with_tls();
    let file = |name: &str| server.folder().join(name);
    let url = format!("rediss://localhost:{}", server.tls_port());
    let options = Options {
        url,
        ca: Some(file("ca.pem")),
        identity: Some((file("cert.pem"), file("key.pem"))),
        ..server.options()
    };
    let mut run = Run::new(options.clone()).await;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);

    let without = Options {
        url: format!("redis://localhost:{}", server.tls_port()),
        ca: None,
        identity: None,
        ..options.clone()
    };
    let told = retried(Redis::open(without).unwrap().inspect("p", &declared(&["k"])).await);
    assert!(told.contains("write `url` with rediss://"), "{told}");
    let stranger = Options { ca: None, identity: None, ..options.clone() };
    assert!(stopped(Redis::open(stranger).unwrap().knows("p").await).contains("`ca`"));
    let plain = Options { url: server.url(), ..options.clone() };
    assert!(stopped(Redis::open(plain)).contains("rediss://"));
    let missing = Options { ca: Some(file("none.pem")), ..options };
    assert!(stopped(Redis::open(missing)).contains("none.pem"));
}

#[tokio::test]
async fn a_cluster_is_told_at_once() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    let sink = Redis::open(server.options()).unwrap();
    assert!(stopped(sink.prepare("p", &declared(&["*"])).await).contains("Cluster"));
}

#[tokio::test]
async fn inspection_notes_what_endangers_the_ledger_and_changes_nothing() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let sink = Arc::new(Redis::open(server.options()).unwrap());
    let Inspection { faults, notes } = sink.inspect("p", &declared(&["*"])).await.unwrap();
    assert!(faults.is_empty() && notes.len() == 1 && notes[0].contains("volatile-lru"), "{faults:?} {notes:?}");
    server.ask::<()>("CONFIG SET maxmemory-policy volatile-lru");
    assert_eq!(sink.inspect("p", &declared(&["order:*", "all"])).await.unwrap(), Inspection::default());
    assert_eq!(server.ask::<i64>("DBSIZE"), 0);
}
