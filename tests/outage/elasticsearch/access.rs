//! Who comes, and what for: TLS, passwords and API keys, rights, and requests that are too large. The node of the tests
//! knows nothing of the first three; a gate before it does, and answers as a node with its security on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::support::{Authority, Gate, Request, Verdict};
use super::*;

const PASSWORD: &str = "right-horse";
const WRONG: &str = "wrong-battery";

/// The credentials of this user, in the configuration.
fn login(password: &str) -> String {
    format!("username = \"alice\"\npassword = \"{password}\"")
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("alice:{password}")))
}

/// What a node with its security on answers in place of what was asked.
fn error(status: u16, reason: &str) -> Verdict {
    let cause = json!({"type": "security_exception", "reason": reason});
    let whole = json!({"root_cause": [cause], "type": "security_exception", "reason": reason});
    Verdict::Answer(status, json!({"error": whole, "status": status}).to_string())
}

/// Lets through who says this, and tells all others that it does not know them.
fn known(authorization: &str) -> impl FnMut(&Request) -> Verdict + Send + 'static {
    let authorization = authorization.to_owned();
    move |request| match request.header("authorization") {
        Some(told) if told == authorization => Verdict::Pass,
        Some(_) => error(401, "unable to authenticate user [alice] for REST request [/]"),
        None => error(401, "missing authentication credentials for REST request [/]"),
    }
}

/// Says of every document of a bulk that this user may not write it, and passes on all else.
fn nothing_is_written(request: &Request) -> Verdict {
    if !request.path.starts_with("/_bulk") {
        return Verdict::Pass;
    }
    let reason = "action [indices:data/write/bulk[s]] is unauthorized for user [alice] on indices [contact-000001]";
    let item = |action: &str| {
        let error = json!({"type": "security_exception", "reason": reason});
        json!({action: {"_index": "contact-000001", "status": 403, "error": error}})
    };
    let action = |line: &str| {
        ["index", "delete"].into_iter().find(|action| line.starts_with(&format!("{{\"{action}\":{{\"_index\"")))
    };
    let items: Vec<_> = request.body.lines().filter_map(action).map(item).collect();
    Verdict::Answer(200, json!({"items": items}).to_string())
}

/// A contact of this id and name, made of a captured one.
fn contact(id: u32, name: &str) -> Event {
    let event = documents().into_iter().find(|event| event.value.is_some()).unwrap();
    let mut value: Value = serde_json::from_str(event.value.as_ref().unwrap()).unwrap();
    (value["after"]["id"], value["after"]["full_name"]) = (id.into(), name.into());
    Event { key: Some(json!({ "id": id }).to_string()), value: Some(value.to_string()), ..event }
}

impl Case {
    /// Has the next start go through a gate, with these lines beside the address.
    fn through(&mut self, gate: &Gate, lines: &str) {
        let server = self.server.0.clone();
        self.stream.program.change(&format!("url = \"{server}\""), &format!("url = \"{}\"\n{lines}", gate.url));
    }

    /// It runs to the end, and neither it nor the check says anything of trouble.
    fn runs_well(&self) {
        let (code, found) = self.stream.program.check();
        assert_eq!(code, 0, "{found:#?}");
        let troubles = self.stream.running().stop();
        assert_eq!(troubles, [""; 0]);
        self.check();
    }

    /// It does not start, with one message that has these parts, and the check has one finding with them.
    fn is_refused(&self, parts: &[&str]) {
        let told =
            self.stream.program.start().fails(&[&[self.stream.pipeline.as_str(), "sink `search`"], parts].concat());
        let found = self.is_found(parts);
        assert!(!format!("{told}{found}").contains(WRONG));
        assert_eq!(self.stream.program.dead_letters(), 0);
    }

    /// The check has one finding of the sink, with these parts.
    fn is_found(&self, parts: &[&str]) -> String {
        let (code, mut found) = self.stream.program.check();
        assert_ne!(code, 0, "{found:#?}");
        found.retain(|line| line.contains("sink `search`"));
        assert!(found.len() == 1 && parts.iter().all(|part| found[0].contains(part)), "{parts:?}: {found:#?}");
        found.remove(0)
    }

    /// It stops in mid-stream under this rule of the gate, with one message that has these parts.
    fn stops_under(&mut self, gate: &Gate, rule: impl FnMut(&Request) -> Verdict + Send + 'static, parts: &[&str]) {
        let run = self.stream.running();
        gate.rule(rule);
        self.stream.produce(&documents());
        let told = run.fails(&[&[self.stream.pipeline.as_str(), "sink `search`"], parts].concat());
        assert!(!told.contains(WRONG) && !told.contains(PASSWORD), "{told}");
        assert_eq!(self.stream.program.dead_letters(), 0);
    }
}

#[test]
fn a_certificate_is_trusted_by_who_signed_it_and_for_the_name_that_it_bears() {
    let folder = Folder::new();
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(folder.path(), name));
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, Some(&ours.issue("server", "localhost", "DNS:localhost")));
    let ca = |authority: &Authority| format!("ca = \"{}\"", authority.certificate().display());

    case.through(&gate, &ca(&others));
    case.is_refused(&[&gate.url, "certificate that is not trusted", "`ca`"]);
    case.stream.program.change(&ca(&others), &ca(&ours));
    let name = gate.url.replace("localhost", "127.0.0.1");
    case.stream.program.change(&gate.url, &name);
    case.is_refused(&[&name, "certificate", "localhost", "a name that it bears"]);
    case.stream.program.change(&name, &gate.url);
    case.runs_well();
}

#[test]
fn an_address_without_tls_where_the_node_wants_it_is_told_so() {
    let folder = Folder::new();
    let ours = Authority::new(folder.path(), "ours");
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, Some(&ours.issue("server", "localhost", "DNS:localhost")));
    case.through(&gate, "");
    let plain = gate.url.replace("https", "http");
    case.stream.program.change(&gate.url, &plain);
    case.is_found(&[&plain, "`url` with https://"]);
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink `search`", &plain, "`url` with https://"]);
    assert_eq!(case.stream.program.dead_letters(), 0);
}

#[test]
fn a_wrong_password_stops_the_pipeline_until_it_is_corrected() {
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, None);
    gate.rule(known(&basic(PASSWORD)));
    case.through(&gate, &login(WRONG));
    case.is_refused(&["credentials are refused", "unable to authenticate", "correct username and password"]);
    case.stream.program.change(WRONG, PASSWORD);
    case.runs_well();

    // Somebody changes it while the pipeline runs.
    case.stops_under(&gate, known(&basic("anew")), &["credentials are refused", "correct username and password"]);
    case.stream.program.change(PASSWORD, "anew");
    case.runs_well();
}

#[test]
fn an_api_key_is_taken_as_the_server_hands_it_out_and_as_id_and_key() {
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, None);
    let encoded = STANDARD.encode("id-1:key-1");
    gate.rule(known(&format!("ApiKey {encoded}")));
    case.through(&gate, &format!("api_key = \"id-1:{WRONG}\""));
    case.is_refused(&["credentials are refused", "api_key"]);
    case.stream.program.change(&format!("id-1:{WRONG}"), "id-1:key-1");
    case.runs_well();
    case.stream.program.change("id-1:key-1", &encoded);
    case.runs_well();
}

#[test]
fn a_user_who_may_not_write_stops_the_pipeline_until_that_is_granted() {
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, None);
    let bulk = |request: &Request| match request.path.starts_with("/_bulk") {
        true => error(403, "action [indices:data/write/bulk] is unauthorized for user [alice]"),
        false => Verdict::Pass,
    };
    case.through(&gate, &login(PASSWORD));
    case.stops_under(&gate, bulk, &["the user may not do this", "is unauthorized for user", "grant it", "write"]);
    // Rights on one of the indexes alone are told document by document.
    gate.rule(|_| Verdict::Pass);
    case.stops_under(
        &gate,
        nothing_is_written,
        &["is unauthorized for user", "contact-000001", "grant the user write"],
    );
    gate.rule(|_| Verdict::Pass);
    case.runs_well();
}

#[test]
fn a_user_who_may_not_look_at_the_ledger_is_refused() {
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, None);
    let ledger = case.named("ledger");
    gate.rule(move |request| match request.path.contains(&ledger) {
        true => error(403, "action [indices:admin/get] is unauthorized for user [alice]"),
        false => Verdict::Pass,
    });
    case.through(&gate, &login(PASSWORD));
    case.is_refused(&["the user may not do this", &case.named("ledger"), "grant it", "the ledger"]);
    gate.rule(|_| Verdict::Pass);
    case.runs_well();
}

#[test]
fn a_node_that_takes_small_requests_alone_is_sent_smaller_ones_and_one_too_large_document_is_a_dead_letter() {
    let folder = Folder::new();
    let small = vec![("http.max_content_length".to_owned(), "32kb".to_owned())];
    let server = Elasticsearch { settings: small, ..Elasticsearch::new(jars(), Flavour::Elasticsearch) };
    let server = server.start(folder.path()).unwrap();
    let mut case = Case::on(server.url());
    let many: Vec<_> = (0..400).map(|number| contact(900_000 + number, "Jane Doe")).collect();
    case.stream.produce(&many);
    case.runs_well();

    // No cut makes this one small enough.
    case.stream.topic.produce(&[contact(1_000_000, &"x".repeat(900 << 10))]);
    case.stream.produce(&documents());
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "dead letter", &case.stream.topic.name]);
    case.stream.settled(&mut run);
    assert_eq!(run.stop().len(), 1);
    let letters = case.stream.program.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let told = letters[0].to_string();
    assert!(told.contains("413") && told.contains("http.max_content_length"), "{told}");
}

#[test]
fn a_bulk_whose_answer_is_lost_is_written_again_and_nothing_is_missing() {
    let mut case = Case::new();
    let gate = Gate::open(&case.server.0, None);
    case.through(&gate, "");
    let mut run = case.stream.running();
    // Of every five requests that change something, one is done and nobody hears of it, and one does not arrive.
    let (mut changes, lost) = (0, Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&lost);
    gate.rule(move |request| {
        let is_change = request.path.starts_with("/_bulk") || request.path.contains("if_seq_no=");
        changes += usize::from(is_change);
        let verdict = match changes % 5 {
            1 => Verdict::LoseAnswer,
            3 => Verdict::LoseRequest,
            _ => Verdict::Pass,
        };
        if !is_change || matches!(verdict, Verdict::Pass) || count.load(Ordering::SeqCst) == 20 {
            return Verdict::Pass;
        }
        count.fetch_add(1, Ordering::SeqCst);
        verdict
    });
    case.stream.produce(&repeated(&documents(), 20));
    case.stream.settled(&mut run);
    case.check();
    assert!(lost.load(Ordering::SeqCst) > 5);
    run.stop();
}
