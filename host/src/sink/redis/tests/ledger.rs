//! What a transaction is proof against: what it compares is as it is when it is executed, whatever was known before.

use super::*;

#[tokio::test]
async fn stale_owner_is_fenced_after_its_connection_has_served_others() {
    let server = Server::start(&[]);
    let mut stale = Run::new(server.options()).await;
    // Behind this write the connection watches the row. What comes next takes the watch away.
    assert_eq!(stale.write(&[set("k", "1")]).await, Written::Applied);
    stale.sink.prepare("p", &declared(&["*"])).await.unwrap();
    let mut successor = Run::under(server.options(), "p", Token(2)).await;
    assert_eq!(successor.write(&[set("k", "2")]).await, Written::Applied);
    stale.next = 1;
    assert_eq!(stale.write(&[set("k", "stale")]).await, Written::Fenced);
    assert_eq!(server.ask::<String>("GET k"), "2");
}

#[tokio::test]
async fn write_that_comes_again_after_a_loss_is_not_taken_for_applied() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);
    server.ask::<()>("FLUSHALL");
    run.next = 0;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::LedgerMissing);
}

#[tokio::test]
async fn claim_sees_what_changes_while_it_is_made() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let run = Run::new(Options { url: format!("redis://{}", proxy.address), ..server.options() }).await;
    let new =
        |partition| LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition } };
    let meanwhile = |command: &'static str, key: &'static str| {
        let mut others = server.look();
        proxy.before("MULTI", move || {
            let mut request = ::redis::cmd(command);
            request.arg(key);
            if command == "SET" {
                request.arg("held");
            }
            request.exec(&mut others).unwrap();
        });
    };
    meanwhile("SET", "tidegate:p:hold:store");
    assert!(retried(run.sink.claim(&new(1), Token(1), 0).await).contains("being replaced"));
    server.ask::<()>("DEL tidegate:p:hold:store");
    meanwhile("DEL", "tidegate:p:head:store");
    assert!(stopped(run.sink.claim(&new(2), Token(1), 0).await).contains("tidegate:p:head:store"));
    assert_eq!(server.ask::<i64>("EXISTS tidegate:p:ledger:store:t:1 tidegate:p:ledger:store:t:2"), 0);
}

#[tokio::test]
async fn batch_of_which_the_server_executes_a_part_alone_stops() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    // Nothing looks at this key before it is added to.
    server.ask::<()>("SET tidegate:p:history:store:t:0 text");
    let told = stopped(run.attempt(&[set("k", "1")]).await);
    assert!(told.contains("WRONGTYPE") && told.contains("filled afresh"), "{told}");
}

#[tokio::test]
async fn cache_of_many_steps_is_cleared_whole() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let commands: Vec<_> = (0..5000).map(|n| set(&format!("k{n}"), "1")).collect();
    assert_eq!(run.write(&commands).await, Written::Applied);
    run.sink.clear_cache("p", &["k*".into()]).await.unwrap();
    // The head, and the history in two keys.
    assert_eq!(server.ask::<i64>("DBSIZE"), 3);
}
