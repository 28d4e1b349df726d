//! Messages and dead letters on a broker that asks who comes: those who send them say who they are, as the source does.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use xtask::services::{Kafka, Running};

use super::support::{Authority, Broker, Event, Folder, ORDER_CACHE, Orders, Stream, Topic, cache_of, jars, orders};

const PASSWORD: &str = "right-horse";
const WRONG: &str = "wrong-battery";

/// A transform that publishes one message for each record of its topic, under the key `PARTITION@OFFSET`.
const STAMPS: &str = r#"
[[pipelines.transforms]]
name = "stamps"
module = "{guests}/hostile.wasm"
settings = { stamp = "1", describe = { topics = ["stamps"] } }
grants = { messages = ["stamps"] }
"#;

/// A broker whose clients come by TLS and with a password by SCRAM, and the authority that signed its certificate. The
/// tests, and the source, come by its other listener.
fn broker(folder: &Folder) -> (Running, Authority) {
    let authority = Authority::new(folder.path(), "authority");
    let identity = authority.issue("broker", "localhost", "IP:127.0.0.1");
    let store = folder.path().join("broker-store.pem");
    let parts = [&identity.key, &identity.certificate].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&store, parts.concat()).unwrap();
    let listener = [
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN".to_owned()),
        (
            "plain.sasl.jaas.config",
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{PASSWORD}\";"),
        ),
        (
            "scram-sha-512.sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        ),
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", store.display().to_string()),
    ];
    let mut properties: Vec<_> =
        listener.into_iter().map(|(name, value)| (format!("listener.name.client.{name}"), value)).collect();
    let protocols = "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT";
    properties.push(("listener.security.protocol.map".to_owned(), protocols.to_owned()));
    let scram_users = vec![("alice".to_owned(), PASSWORD.to_owned())];
    let server = Kafka { properties, scram_users, ..Kafka::new(jars()) }.start(&folder.path().join("kafka")).unwrap();
    (server, authority)
}

fn inside(server: &Running) -> Broker {
    Broker(server.addresses()[1].to_string())
}

/// The keys of a block for this broker, with a wrong password.
fn keys(server: &Running, authority: &Authority) -> String {
    format!(
        "brokers = \"{}\"\ntls = {{ ca = \"{}\" }}\n\
         sasl = {{ mechanism = \"SCRAM-SHA-512\", username = \"alice\", password = \"{WRONG}\" }}",
        server.url(),
        authority.certificate().display()
    )
}

/// A pipeline that publishes a message for each record.
pub(super) struct Stamps {
    pub(super) stream: Stream,
    messages: Topic,
}

impl Stamps {
    /// Reads from a broker, and publishes where this block says.
    pub(super) fn on(broker: &Broker, sink: &str) -> Self {
        let messages = broker.create("stamps", 2);
        let config = format!(
            "[sinks.events.kafka]\n{sink}\n[[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\n\
             format = \"debezium-flattened\"\nsinks = {{ messages = \"events\" }}\n{STAMPS}"
        );
        Self { stream: Stream::new(broker, "orders", orders(), &config), messages }
    }

    /// Has it keep the orders in a cache too, which is a file.
    pub(super) fn bind_a_cache(&mut self) {
        let program = &mut self.stream.program;
        let cache = "[sinks.cache.sqlite]\npath = \"cache.db\"\n[sinks.events.kafka]";
        program.change("[sinks.events.kafka]", cache);
        program.change("messages = \"events\"", "messages = \"events\", cache = \"cache\"");
        program.change(STAMPS, &format!("{STAMPS}{ORDER_CACHE}"));
    }

    /// How often each record was published, by its partition and offset.
    pub(super) fn published(&self) -> BTreeMap<String, usize> {
        let keys = self.messages.read(|message| String::from_utf8(message.key().unwrap().to_vec()).unwrap());
        keys.into_iter().fold(BTreeMap::new(), |mut published, key| {
            *published.entry(key).or_default() += 1;
            published
        })
    }

    /// Each record was published once.
    pub(super) fn check(&self) {
        let (mut next, mut wanted) = ([0_u64; 3], BTreeMap::new());
        for event in &self.stream.produced {
            let next = &mut next[usize::try_from(event.partition).unwrap()];
            // A tombstone is no change.
            if event.value.is_some() {
                wanted.insert(format!("{}@{next}", event.partition), 1);
            }
            *next += 1;
        }
        assert_eq!(self.published(), wanted);
        assert_eq!(self.stream.program.dead_letters(), 0);
    }
}

/// The check has one finding of a place, with these parts, and none of them shows the password.
fn is_found(stream: &Stream, place: &str, parts: &[&str]) {
    let (code, mut found) = stream.program.check();
    assert_ne!(code, 0, "{found:#?}");
    found.retain(|line| line.contains(place));
    assert!(found.len() == 1 && parts.iter().all(|part| found[0].contains(part)), "{parts:?}: {found:#?}");
    assert!(!found[0].contains(WRONG));
}

fn runs_well(stream: &Stream) -> Vec<String> {
    let (code, found) = stream.program.check();
    assert_eq!(code, 0, "{found:#?}");
    stream.running().stop()
}

#[test]
fn messages_wait_for_the_right_password_and_each_is_published_once() {
    let folder = Folder::new();
    let (server, authority) = broker(&folder);
    let mut case = Stamps::on(&inside(&server), &keys(&server, &authority));
    let remedy = ["stamps", "Authentication failed", "correct `sasl` and `tls`"];
    is_found(&case.stream, "sink `events`", &remedy);
    let parts = [&[case.stream.pipeline.as_str(), "sink `events`"], &remedy[..]].concat();
    let told = case.stream.program.start().fails(&parts);
    assert!(!told.contains(WRONG), "{told}");
    assert_eq!(case.published(), BTreeMap::new());

    case.stream.program.change(WRONG, PASSWORD);
    assert_eq!(runs_well(&case.stream), [""; 0]);
    case.check();

    // Without TLS the broker hangs up, and may come to its senses: it is waited for.
    let tls = format!("tls = {{ ca = \"{}\" }}", authority.certificate().display());
    case.stream.program.change(&tls, "");
    is_found(&case.stream, "sink `events`", &["does it ask for `tls`"]);
    case.stream.produce(&orders());
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink `events`", "does it ask for `tls`"]);
    drop(run);
    case.stream.program.change("sasl = {", &format!("{tls}\nsasl = {{"));
    assert_eq!(runs_well(&case.stream), [""; 0]);
    case.check();
}

#[test]
fn a_password_that_is_changed_stops_the_messages_until_the_new_one_is_given_and_none_is_lost() {
    let folder = Folder::new();
    let (mut server, authority) = broker(&folder);
    let mut case = Stamps::on(&inside(&server), &keys(&server, &authority));
    case.stream.program.change("SCRAM-SHA-512", "PLAIN");
    case.stream.program.change(WRONG, PASSWORD);
    let run = case.stream.running();
    // A broker that has just come up may not have its groups ready.
    let before = run.troubles().len();
    server.stop().unwrap();
    let properties = folder.path().join("kafka/server.properties");
    let text = std::fs::read_to_string(&properties).unwrap();
    assert!(text.contains(PASSWORD));
    std::fs::write(&properties, text.replace(PASSWORD, "anew")).unwrap();
    server.restart().unwrap();
    case.stream.produce(&orders());

    let (code, mut troubles) = run.ended();
    let last = troubles.pop().unwrap();
    let remedy = ["sink `events`", "stamps", "Authentication failed", "correct `sasl` and `tls`"];
    assert!(code == Some(1) && remedy.iter().all(|part| last.contains(part)), "{last}");
    assert!(last.contains(&case.stream.pipeline) && !last.contains(PASSWORD), "{last}");
    // That the broker was away is told by itself.
    let others = troubles.split_off(before);
    assert!(others.len() < 2 && others.iter().all(|line| line.contains("cannot be reached")), "{others:#?}");

    case.stream.program.change(PASSWORD, "anew");
    assert_eq!(runs_well(&case.stream), [""; 0]);
    case.check();
}

#[test]
fn dead_letters_want_the_right_password_too_and_none_is_lost() {
    let folder = Folder::new();
    let (server, authority) = broker(&folder);
    let mut case = Orders::on(&inside(&server));
    let letters = inside(&server).create("letters", 1);
    let place = format!("[dead_letters.kafka]\ntopic = \"letters\"\n{}\n[engine]", keys(&server, &authority));
    case.stream.program.change("[engine]", &place);
    case.stream.topic.produce(&[Event { partition: 0, key: None, value: Some("poison".into()) }]);
    let remedy = ["letters", "Authentication failed", "correct `sasl` and `tls`"];
    is_found(&case.stream, "dead_letters.kafka", &remedy);
    let told = case.stream.program.start().fails(&[&["dead_letters.kafka"], &remedy[..]].concat());
    assert!(!told.contains(WRONG), "{told}");
    assert_eq!(letters.dead_letters(), [""; 0]);

    case.stream.program.change(WRONG, PASSWORD);
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "dead letter", &case.stream.topic.name]);
    case.stream.settled(&mut run);
    assert_eq!(run.stop().len(), 1);
    assert_eq!(letters.dead_letters().len(), 1);
    case.check();
}

#[test]
fn messages_are_not_published_again_after_a_restart_nor_for_a_cache_that_begins_at_the_start() {
    let broker = Broker::shared();
    let mut case = Stamps::on(&broker, &format!("brokers = \"{}\"", broker.0));
    assert_eq!(runs_well(&case.stream), [""; 0]);
    case.check();
    case.stream.produce(&orders());
    assert_eq!(runs_well(&case.stream), [""; 0]);
    case.check();

    // The cache begins with the first record: all of them are read once more.
    case.bind_a_cache();
    case.stream.produce(&orders());
    let mut run = case.stream.program.start();
    let wanted = cache_of(&case.stream.produced, ORDER_CACHE);
    case.stream.settled(&mut run);
    run.stop();
    assert_eq!(case.stream.program.cache("cache.db"), wanted);
    case.check();
}
