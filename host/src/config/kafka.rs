//! The keys that every block has which names a Kafka cluster: brokers, TLS, SASL, and properties for the client.

use std::collections::BTreeMap;

use super::block::{Block, Placed};
use super::pipelines::choice;
use super::text::{FilePath, Text};

/// Properties of librdkafka that tidegate sets itself, since its delivery depends on them.
const OWN: [&str; 18] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "security.protocol",
    "transactional.id",
];

/// How to reach a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaClient {
    /// `host:port`, several with commas between.
    pub brokers: Text,
    /// TLS; none is plain text.
    pub tls: Option<KafkaTls>,
    /// Who the client says it is.
    pub sasl: Option<KafkaSasl>,
    /// Further properties of librdkafka, by their names there.
    pub properties: BTreeMap<String, Text>,
}

/// `tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaTls {
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<FilePath>,
    /// The client's own certificate, PEM.
    pub certificate: Option<FilePath>,
    /// Its key, PEM.
    pub key: Option<FilePath>,
}

/// `sasl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaSasl {
    /// A user name and a password.
    Password {
        /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        mechanism: &'static str,
        /// The user.
        username: Text,
        /// The password.
        password: Text,
    },
    /// OAUTHBEARER: a token from a file, read again before the token ends. Whoever renews tokens replaces the file.
    Token {
        /// The file.
        file: FilePath,
    },
}

/// Reads the keys that clients have in common; the caller reads its own and finishes the block.
pub(super) fn read(block: &mut Block<'_>) -> Option<KafkaClient> {
    let brokers = block.text("brokers");
    let brokers = block.required("brokers", brokers, "name them, as `brokers = \"localhost:9092\"`");
    if let Some(Placed { value, place }) = brokers.as_ref()
        && value.trim().is_empty()
    {
        block.document().problem(place, "no broker is named", "write `host:port`, several with commas between");
    }
    let tls = read_tls(block);
    let sasl = block.block("sasl").and_then(read_sasl);
    let properties = read_properties(block);
    Some(KafkaClient { brokers: brokers?.value, tls, sasl, properties })
}

/// `tls = true`, or a table.
fn read_tls(block: &mut Block<'_>) -> Option<KafkaTls> {
    if block.is_boolean("tls") {
        return block.boolean("tls")?.then(KafkaTls::default);
    }
    let mut tls = block.block("tls")?;
    let place = tls.place();
    let ca = tls.path("ca").map(|path| path.value);
    let certificate = tls.path("certificate").map(|path| path.value);
    let key = tls.path("key").map(|path| path.value);
    if certificate.is_some() != key.is_some() {
        tls.document().problem(&place, "a certificate and its key belong together", "give both or neither");
    }
    tls.finish("key");
    Some(KafkaTls { ca, certificate, key })
}

fn read_sasl(mut block: Block<'_>) -> Option<KafkaSasl> {
    let mechanisms = [
        ("PLAIN", "PLAIN"),
        ("SCRAM-SHA-256", "SCRAM-SHA-256"),
        ("SCRAM-SHA-512", "SCRAM-SHA-512"),
        ("OAUTHBEARER", "OAUTHBEARER"),
    ];
    let mechanism = choice(&mut block, "mechanism", &mechanisms);
    let mechanism = block.required("mechanism", mechanism, "write `mechanism = \"SCRAM-SHA-512\"`");
    let (username, password) = (block.text("username"), block.text("password"));
    let file = block.path("token_file");
    let sasl = if mechanism == Some("OAUTHBEARER") {
        let file = block.required("token_file", file, "name the file with the token");
        file.map(|file| KafkaSasl::Token { file: file.value })
    } else {
        let username = block.required("username", username, "give the user");
        let password = block.required("password", password, "give it, as `password = \"${env:KAFKA_PASSWORD}\"`");
        mechanism.zip(username).zip(password).map(|((mechanism, username), password)| KafkaSasl::Password {
            mechanism,
            username: username.value,
            password: password.value,
        })
    };
    block.finish("key");
    sasl
}

fn read_properties(block: &mut Block<'_>) -> BTreeMap<String, Text> {
    let mut properties = BTreeMap::new();
    let Some(mut block) = block.block("properties") else { return properties };
    for name in block.names() {
        let Some(Placed { value, place }) = block.text(&name) else { continue };
        if OWN.contains(&name.as_str()) {
            let cause = format!("`{name}` is tidegate's own to set: its delivery depends on it");
            block.document().problem(&place, cause, "leave it out, or use the key of this block that stands for it");
        }
        properties.insert(name, value);
    }
    properties
}
