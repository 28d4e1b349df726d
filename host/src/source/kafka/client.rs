//! What every client of a Kafka cluster has in common: its properties, its OAuth token, its log lines, and which of
//! its errors do not pass by themselves.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::{FilePath, KafkaClient, KafkaSasl};

/// How long a token serves that does not say when it expires: then its file is read again.
const OPAQUE_TOKEN_LIFE: Duration = Duration::from_secs(300);

/// The properties of a client: where the cluster is, TLS, SASL, and what the operator passes on. The caller adds what
/// makes it a consumer or a producer, and gives it a context whose `log` is [`log`] and whose `generate_oauth_token`
/// is [`token`].
pub(crate) fn client_config(client: &KafkaClient) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &client.properties {
        config.set(name, value.as_str());
    }
    config.set("bootstrap.servers", client.brokers.as_str());
    config.set("client.id", client.properties.get("client.id").map_or("tidegate", |id| id.as_str()));
    config.set(
        "security.protocol",
        match (&client.tls, &client.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(tls) = &client.tls {
        // The OpenSSL that is built in knows no folder of this system: `probe` looks where systems keep theirs.
        config.set("ssl.ca.location", tls.ca.as_ref().map_or("probe".into(), path));
        if let Some((certificate, key)) = tls.certificate.as_ref().zip(tls.key.as_ref()) {
            config.set("ssl.certificate.location", path(certificate));
            config.set("ssl.key.location", path(key));
        }
    }
    match &client.sasl {
        None => {}
        Some(KafkaSasl::Password { mechanism, username, password }) => {
            config.set("sasl.mechanisms", *mechanism);
            config.set("sasl.username", username.as_str());
            config.set("sasl.password", password.as_str());
        }
        Some(KafkaSasl::Token { .. }) => {
            config.set("sasl.mechanisms", "OAUTHBEARER");
        }
    }
    config.set_log_level(if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    });
    config
}

fn path(path: &FilePath) -> String {
    path.as_path().to_string_lossy().into_owned()
}

/// Why a client cannot be made of its configuration, without the values that it holds.
pub(crate) fn refused(client: &KafkaClient, error: &KafkaError) -> anyhow::Error {
    let secret = match &client.sasl {
        Some(KafkaSasl::Password { password, .. }) => Some(password),
        _ => None,
    };
    let values = client.properties.values().chain(secret).filter(|value| !value.is_empty());
    let hide = |cause: &str| values.fold(cause.to_owned(), |cause, value| cause.replace(value.as_str(), "…"));
    match error {
        KafkaError::ClientConfig(_, cause, name, _) => anyhow!(
            "the Kafka client does not take `{name}`: {}; correct it, or leave it out of `properties`",
            hide(cause)
        ),
        KafkaError::ClientCreation(cause) => {
            anyhow!("the Kafka client cannot be made: {}; correct its `tls`, `sasl` or `properties`", hide(cause))
        }
        other => anyhow!("the Kafka client cannot be made: {}", hide(&other.to_string())),
    }
}

/// The remedy of an error that does not pass by itself; none where waiting may help.
pub(crate) fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    Some(match code {
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::IllegalSASLState => {
            "correct `sasl`: the mechanism, the user and the password, or the token"
        }
        RDKafkaErrorCode::SSL => {
            "correct `tls`: `ca` must be what signed the broker's certificate, and `certificate`, where the broker asks \
             for one, what it trusts"
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => "allow this user to READ and DESCRIBE the topic",
        RDKafkaErrorCode::GroupAuthorizationFailed => "allow this user to READ the group, or choose another `group`",
        RDKafkaErrorCode::ClusterAuthorizationFailed => "allow this user what it does on the cluster",
        RDKafkaErrorCode::FencedInstanceId => "give each replica an `instance` of its own: another has taken this one",
        _ => return None,
    })
}

/// What an error is of. A broker refuses a client's certificate when the handshake is over for the client, to which the
/// connection is then merely broken.
pub(crate) fn meaning(code: RDKafkaErrorCode, reason: &str) -> RDKafkaErrorCode {
    let refused = reason.contains("alert") && (reason.contains("certificate") || reason.contains("unknown ca"));
    match code {
        RDKafkaErrorCode::BrokerTransportFailure if refused => RDKafkaErrorCode::SSL,
        code => code,
    }
}

/// Passes a log line of librdkafka on. What its properties hold is in none of them: it blacks out secrets itself.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        // These come as errors too, and are told there.
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::debug!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// Reads the OAuth token of a client; its own statement of when it expires says when it will be read again.
///
/// # Errors
/// When there is no such file, or it holds no token that still serves; the text names the file and the remedy.
pub(crate) fn token(client: &KafkaClient) -> Result<OAuthToken, Box<dyn Error>> {
    let Some(KafkaSasl::Token { file }) = &client.sasl else {
        return Err("no `token_file` is configured".into());
    };
    let shown = file.shown();
    let text = std::fs::read_to_string(file.as_path())
        .map_err(|error| format!("cannot read the token {shown}: {error}; have it written there"))?;
    let token = text.trim();
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(format!("{shown} holds no token: have one written there, alone on one line").into());
    }
    let now = since_epoch(SystemTime::now());
    let claims = claims(token);
    let expires = claims.as_ref().and_then(|claims| claims.get("exp")?.as_f64()).map(|seconds| {
        // Far beyond any date there is no difference any more.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    });
    if expires.is_some_and(|expires| expires <= now) {
        return Err(format!("the token {shown} has expired: have a fresh one written there").into());
    }
    let lifetime = expires.unwrap_or(now + OPAQUE_TOKEN_LIFE).as_millis();
    let subject = claims.as_ref().and_then(|claims| claims.get("sub")?.as_str());
    Ok(OAuthToken {
        principal_name: subject.filter(|subject| !subject.contains('\0')).unwrap_or("tidegate").to_owned(),
        lifetime_ms: i64::try_from(lifetime).unwrap_or(i64::MAX),
        token: token.to_owned(),
    })
}

/// [`token`], tried before a client is made, so that a missing file ends the start and not a connection.
pub(crate) fn check_token(client: &KafkaClient) -> anyhow::Result<()> {
    if let Some(KafkaSasl::Token { .. }) = &client.sasl {
        token(client).map_err(|error| anyhow!("{error}")).context("`sasl`")?;
    }
    Ok(())
}

/// The claims of a JSON Web Token; none where it is another kind of token. The broker alone checks the signature.
fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The offset of the end that a client has come to, from the text of its event: librdkafka tells it nowhere else.
pub(crate) fn end_offset(text: &str) -> Option<u64> {
    let digits = text.split_once("at offset ")?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{KafkaTls, Text};

    fn plain() -> KafkaClient {
        KafkaClient { brokers: Text::plain("a:9092,b:9092"), tls: None, sasl: None, properties: BTreeMap::new() }
    }

    fn password(mechanism: &'static str) -> Option<KafkaSasl> {
        Some(KafkaSasl::Password { mechanism, username: Text::plain("alice"), password: Text::plain("s3cret") })
    }

    /// A client whose token is this, in a file of this folder.
    fn with_token(folder: &Path, token: &str) -> KafkaClient {
        let file = folder.join("token");
        std::fs::write(&file, token).unwrap();
        KafkaClient { sasl: Some(KafkaSasl::Token { file: FilePath::plain(file) }), ..plain() }
    }

    fn jwt(claims: &str) -> String {
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims), "signature")
    }

    #[test]
    fn each_way_of_reaching_a_cluster_has_its_protocol() {
        let tls = Some(KafkaTls::default());
        for (tls, sasl, protocol) in [
            (None, None, "plaintext"),
            (tls.clone(), None, "ssl"),
            (None, password("PLAIN"), "sasl_plaintext"),
            (tls, password("SCRAM-SHA-512"), "sasl_ssl"),
        ] {
            let config = client_config(&KafkaClient { tls, sasl, ..plain() });
            assert_eq!(config.get("security.protocol"), Some(protocol));
            assert_eq!(config.get("bootstrap.servers"), Some("a:9092,b:9092"));
            config.create_native_config().expect("librdkafka knows each property and value");
        }
    }

    #[test]
    fn certificates_come_from_files_or_from_the_system() {
        let tls = KafkaTls {
            ca: Some(FilePath::plain("/ca.pem")),
            certificate: Some(FilePath::plain("/me.pem")),
            key: Some(FilePath::plain("/me.key")),
        };
        let config = client_config(&KafkaClient { tls: Some(tls), ..plain() });
        let names = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"];
        assert_eq!(names.map(|name| config.get(name)), [Some("/ca.pem"), Some("/me.pem"), Some("/me.key")]);
        let system = client_config(&KafkaClient { tls: Some(KafkaTls::default()), ..plain() });
        assert_eq!(names.map(|name| system.get(name)), [Some("probe"), None, None]);
    }

    #[test]
    fn a_password_and_properties_are_passed_on_and_never_shown() {
        let properties = BTreeMap::from([("socket.timeout.ms".to_owned(), Text::plain("hunter2"))]);
        let client = KafkaClient { sasl: password("SCRAM-SHA-256"), properties, ..plain() };
        let config = client_config(&client);
        assert_eq!(config.get("sasl.mechanisms"), Some("SCRAM-SHA-256"));
        assert_eq!(config.get("sasl.username"), Some("alice"));
        assert_eq!(config.get("sasl.password"), Some("s3cret"));
        let error = config.create_native_config().err().expect("no number");
        let told = refused(&client, &error).to_string();
        assert!(told.contains("`socket.timeout.ms`") && told.contains("properties"), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("s3cret"), "{told}");
    }

    #[test]
    fn a_token_says_whose_it_is_and_how_long_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let token_of = |text: &str| token(&with_token(folder.path(), text));
        let far = jwt(r#"{"sub":"orders","exp":4102444800}"#);
        let read = token_of(&format!("{far}\n")).unwrap();
        assert_eq!((read.token, read.principal_name, read.lifetime_ms), (far, "orders".into(), 4_102_444_800_000));
        let opaque = token_of("opaque").unwrap();
        let left = u128::try_from(opaque.lifetime_ms).unwrap() - since_epoch(SystemTime::now()).as_millis();
        assert!((200_000..=300_000).contains(&left), "{left}");
    }

    #[test]
    fn a_token_that_cannot_serve_is_told_with_its_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token").display().to_string();
        for (text, cause) in
            [(jwt(r#"{"exp":1}"#).as_str(), "expired"), ("", "no token"), ("two\nlines", "alone on one line")]
        {
            let told = token(&with_token(folder.path(), text)).err().expect("it is of no use").to_string();
            assert!(told.contains(&file) && told.contains(cause), "{told}");
            assert!(text.is_empty() || !told.contains(text), "{told}");
        }
        let client = with_token(folder.path(), "");
        std::fs::remove_file(folder.path().join("token")).unwrap();
        let told = format!("{:#}", check_token(&client).unwrap_err());
        assert!(told.contains(&file) && told.contains("cannot read"), "{told}");
    }
}
