//! The settings of librdkafka that a configuration's block stands for.

use rdkafka::ClientConfig;

use crate::config::{KafkaClient, KafkaSasl};

/// What reaches the cluster of the block.
pub(crate) fn client_config(client: &KafkaClient) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &client.properties {
        config.set(name, value.as_str());
    }
    config.set("bootstrap.servers", client.brokers.as_str());
    let protocol = match (&client.tls, &client.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(KafkaSasl::Password { mechanism, username, password }) = &client.sasl {
        config.set("sasl.mechanism", *mechanism);
        config.set("sasl.username", username.as_str()).set("sasl.password", password.as_str());
    }
    config
}
