//! Brokers that ask who comes: passwords by SCRAM and PLAIN, tokens, TLS and the clients' certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xtask::services::{Kafka, Running};

use super::support::{Authority, Broker, Folder, Identity, Orders, Run, jars, until};

const PASSWORD: &str = "right-horse";
const WRONG: &str = "wrong-battery";

/// A broker whose clients say who they are, over this protocol and with these further properties of their listener.
fn broker(folder: &Folder, protocol: &str, listener: &[(&str, String)]) -> Running {
    let login = |module: &str, users: &str| format!("org.apache.kafka.common.security.{module} required{users};");
    let scram = login("scram.ScramLoginModule", "");
    let mut properties = vec![(
        "listener.security.protocol.map".to_owned(),
        format!("CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    )];
    let logins = [
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned()),
        ("plain.sasl.jaas.config", login("plain.PlainLoginModule", &format!(" user_alice=\"{PASSWORD}\""))),
        (
            "oauthbearer.sasl.jaas.config",
            login("oauthbearer.OAuthBearerLoginModule", " unsecuredLoginStringClaim_sub=\"broker\""),
        ),
        ("scram-sha-256.sasl.jaas.config", scram.clone()),
        ("scram-sha-512.sasl.jaas.config", scram),
    ];
    let of_listener = logins.iter().chain(listener);
    properties.extend(of_listener.map(|(name, value)| (format!("listener.name.client.{name}"), value.clone())));
    let scram_users = vec![("alice".to_owned(), PASSWORD.to_owned())];
    Kafka { properties, scram_users, ..Kafka::new(jars()) }.start(&folder.path().join("kafka")).unwrap()
}

/// The pipeline, with these lines in its source. The test itself needs no password.
fn orders(server: &Running, lines: &str) -> Orders {
    let inside = server.addresses()[1].to_string();
    let mut case = Orders::on(&Broker(inside.clone()));
    let source = format!("brokers = \"{}\"\n{lines}", server.url());
    case.stream.program.change(&format!("brokers = \"{inside}\""), &source);
    case
}

fn sasl(mechanism: &str, password: &str) -> String {
    format!("sasl = {{ mechanism = \"{mechanism}\", username = \"alice\", password = \"{password}\" }}")
}

/// It runs to the end, and says nothing of trouble.
fn runs_well(case: &Orders) {
    let (code, found) = case.stream.program.check();
    assert_eq!(code, 0, "{found:#?}");
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

/// It stops with one message that has these parts, and so does the check.
fn is_refused(case: &Orders, server: &Running, parts: &[&str]) {
    let told = case.stream.program.start().fails(&[&[case.stream.pipeline.as_str(), server.url()], parts].concat());
    let found = is_found(case, server, parts);
    assert!(![told, found].concat().contains(WRONG));
    assert_eq!(case.stream.program.dead_letters(), 0);
}

/// The check has one finding of this broker, with these parts.
fn is_found(case: &Orders, server: &Running, parts: &[&str]) -> String {
    let (code, mut found) = case.stream.program.check();
    assert_ne!(code, 0, "{found:#?}");
    found.retain(|line| line.contains(server.url()));
    assert!(found.len() == 1 && parts.iter().all(|part| found[0].contains(part)), "{parts:?}: {found:#?}");
    found.remove(0)
}

#[test]
fn a_user_with_the_right_password_reads_and_one_with_a_wrong_one_is_told_so() {
    let folder = Folder::new();
    let server = broker(&folder, "SASL_PLAINTEXT", &[]);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        let mut case = orders(&server, &sasl(mechanism, WRONG));
        is_refused(
            &case,
            &server,
            &["Authentication failed", "correct `sasl`: the mechanism, the user and the password"],
        );
        case.stream.program.change(WRONG, PASSWORD);
        runs_well(&case);
    }
}

/// What a listener shows as its own, PEM.
fn keystore(folder: &Folder, identity: &Identity) -> Vec<(&'static str, String)> {
    let store = folder.path().join("broker-store.pem");
    let parts = [&identity.key, &identity.certificate].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&store, parts.concat()).unwrap();
    vec![("ssl.keystore.type", "PEM".to_owned()), ("ssl.keystore.location", store.display().to_string())]
}

fn ca(authority: &Authority) -> String {
    format!("ca = \"{}\"", authority.certificate().display())
}

#[test]
fn a_broker_with_tls_is_trusted_by_its_certificate_alone() {
    let folder = Folder::new();
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(folder.path(), name));
    let tls = keystore(&folder, &ours.issue("broker", "localhost", "IP:127.0.0.1"));
    let server = broker(&folder, "SASL_SSL", &tls);
    let ca = |authority: &Authority| format!("tls = {{ {} }}", ca(authority));

    let login = sasl("SCRAM-SHA-512", PASSWORD);
    let mut case = orders(&server, &format!("{}\n{login}", ca(&others)));
    is_refused(&case, &server, &["certificate", "correct `tls`: `ca` must be what signed the broker's certificate"]);
    case.stream.program.change(&ca(&others), &ca(&ours));
    runs_well(&case);

    // Without TLS the broker hangs up, and may come to its senses: it is waited for.
    case.stream.program.change(&ca(&ours), "");
    is_found(&case, &server, &["does it ask for `tls`"]);
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, server.url(), "hangs up", "does it ask for `tls`"]);
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_broker_that_asks_for_a_certificate_takes_one_that_it_trusts() {
    let folder = Folder::new();
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(folder.path(), name));
    let mut tls = keystore(&folder, &ours.issue("broker", "localhost", "IP:127.0.0.1"));
    tls.push(("ssl.client.auth", "required".to_owned()));
    tls.push(("ssl.truststore.type", "PEM".to_owned()));
    tls.push(("ssl.truststore.location", ours.certificate().display().to_string()));
    let server = broker(&folder, "SSL", &tls);
    let own = |authority: &Authority, name: &str| {
        let Identity { certificate, key } = authority.issue(name, "alice", "DNS:alice");
        format!(", certificate = \"{}\", key = \"{}\"", certificate.display(), key.display())
    };
    let [right, wrong] = [own(&ours, "alice"), own(&others, "mallory")];
    let refused = ["certificate", "correct `tls`", "`certificate`, where the broker asks for one, what it trusts"];

    let trusted = format!("tls = {{ {} }}", ca(&ours));
    let mut case = orders(&server, &trusted);
    is_refused(&case, &server, &refused);
    let with = |own: &str| format!("tls = {{ {}{own} }}", ca(&ours));
    case.stream.program.change(&trusted, &with(&wrong));
    is_refused(&case, &server, &refused);
    case.stream.program.change(&with(&wrong), &with(&right));
    runs_well(&case);
}

/// A token that nobody has signed, as the broker takes it where nothing else is configured, and that ends so many
/// seconds from now.
fn token(claims: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ends = (now + Duration::from_secs(seconds)).as_secs();
    let claims = format!("{{{claims}\"iat\":{},\"exp\":{ends}}}", now.as_secs());
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

/// The pipeline at work, and when the token that it came with ends. A busy machine gets one that lasts longer.
fn running_with_a_token_that_ends_soon(case: &Orders, write: &impl Fn(&str)) -> (Run, SystemTime) {
    for seconds in [12, 30, 60, 120] {
        write(&token("\"sub\":\"alice\",", seconds));
        let ends = SystemTime::now() + Duration::from_secs(seconds + 2);
        let mut run = case.stream.program.start();
        let at_work = until("the program is at work, or its token has ended", || {
            let ends_of_topic: Vec<_> = case.stream.topic.ends().into_iter().map(Some).collect();
            let settled = case.stream.topic.committed(&case.stream.pipeline) == ends_of_topic;
            let claimed = run.said().iter().filter(|line| line.contains("claimed")).count() == 3;
            let over = SystemTime::now() > ends || !run.is_running();
            (settled && claimed || over).then_some(!over)
        });
        // The client asks for another one when four fifths of the time have passed.
        if at_work && SystemTime::now() + Duration::from_secs(2 + seconds / 4) < ends {
            return (run, ends);
        }
    }
    panic!("the machine is too busy for a token of two minutes");
}

#[test]
fn a_token_is_read_from_its_file_and_another_one_before_it_ends() {
    let folder = Folder::new();
    // The broker hangs up on who does not come with a fresh token when the old one has ended.
    let server = broker(&folder, "SASL_PLAINTEXT", &[("oauthbearer.connections.max.reauth.ms", "3600000".to_owned())]);
    let file = folder.path().join("token");
    let write = |token: &str| std::fs::write(&file, token).unwrap();
    let line = format!("sasl = {{ mechanism = \"OAUTHBEARER\", token_file = \"{}\" }}", file.display());
    let mut case = orders(&server, &line);

    // Whose it is stands in none of its claims.
    let of_nobody = token("", 600);
    write(&of_nobody);
    is_refused(&case, &server, &["correct `sasl`", "the token"]);
    let told = case.stream.program.start().fails(&[]);
    assert!(!told.contains(&of_nobody), "{told}");

    let (mut run, ends) = running_with_a_token_that_ends_soon(&case, &write);
    write(&token("\"sub\":\"alice\",", 600));
    run.until("the first token has ended", || (SystemTime::now() > ends).then_some(()));
    case.stream.produce(&super::support::orders());
    case.stream.settled(&mut run);
    let troubles = run.stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}
