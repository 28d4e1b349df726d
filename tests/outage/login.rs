//! Brokers that ask who comes: passwords by SCRAM and PLAIN, and TLS.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::services::{Kafka, Running};

use super::support::{Broker, Folder, Orders, jars};

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
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
        ("plain.sasl.jaas.config", login("plain.PlainLoginModule", &format!(" user_alice=\"{PASSWORD}\""))),
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
    case.program.change(&format!("brokers = \"{inside}\""), &source);
    case
}

fn sasl(mechanism: &str, password: &str) -> String {
    format!("sasl = {{ mechanism = \"{mechanism}\", username = \"alice\", password = \"{password}\" }}")
}

/// It runs to the end, and says nothing of trouble.
fn runs_well(case: &Orders) {
    let (code, found) = case.program.check();
    assert_eq!(code, 0, "{found:#?}");
    let troubles = case.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

/// It stops with one message that has these parts, and so does the check.
fn is_refused(case: &Orders, server: &Running, parts: &[&str]) {
    let told = case.program.start().fails(&[&[case.pipeline.as_str(), server.url()], parts].concat());
    let (code, found) = case.program.check();
    assert_ne!(code, 0, "{found:#?}");
    let findings: Vec<_> = found.iter().filter(|line| line.contains(server.url())).collect();
    assert!(findings.len() == 1 && parts.iter().all(|part| findings[0].contains(part)), "{found:#?}");
    assert!(![told, found.concat()].concat().contains(WRONG));
    assert_eq!(case.program.dead_letters(), 0);
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
        case.program.change(WRONG, PASSWORD);
        runs_well(&case);
    }
}

/// A certificate for this machine, which vouches for itself, and its key.
fn certificate(folder: &Path, name: &str) -> [PathBuf; 2] {
    let [certificate, key] = ["crt", "key"].map(|end| folder.join(format!("{name}.{end}")));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    make.args(["-addext", "subjectAltName=IP:127.0.0.1", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
    let made = make.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    [certificate, key]
}

#[test]
fn a_broker_with_tls_is_trusted_by_its_certificate_alone() {
    let folder = Folder::new();
    let [ours, key] = certificate(folder.path(), "broker");
    let [others, _] = certificate(folder.path(), "another");
    let store = folder.path().join("broker.pem");
    std::fs::write(&store, [&key, &ours].map(|file| std::fs::read_to_string(file).unwrap()).concat()).unwrap();
    let store = store.to_str().unwrap().to_owned();
    let tls = [("ssl.keystore.type", "PEM".to_owned()), ("ssl.keystore.location", store)];
    let server = broker(&folder, "SASL_SSL", &tls);
    let ca = |file: &Path| format!("tls = {{ ca = \"{}\" }}", file.display());

    let login = sasl("SCRAM-SHA-512", PASSWORD);
    let mut case = orders(&server, &format!("{}\n{login}", ca(&others)));
    is_refused(&case, &server, &["certificate", "correct `tls`: `ca` must be what signed the broker's certificate"]);
    case.program.change(&ca(&others), &ca(&ours));
    runs_well(&case);

    // Without TLS the broker hangs up, and may come to its senses: it is waited for.
    case.program.change(&ca(&ours), "");
    let mut run = case.program.start();
    run.complains(&[&case.pipeline, server.url(), "hangs up", "does it ask for `tls`"]);
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}
