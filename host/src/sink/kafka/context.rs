//! What librdkafka tells beside its answers.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::producer::{Receipt, SILENT};
use crate::config::KafkaClient;
use crate::source::kafka::client;

/// What librdkafka tells beside the messages' fate.
#[derive(Debug)]
pub(super) struct Context {
    settings: KafkaClient,
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// The topic that could last not be added to a transaction.
    refused: Mutex<Option<String>>,
}

impl Context {
    pub(super) fn of(settings: &KafkaClient) -> Self {
        Self { settings: settings.clone(), last: Mutex::default(), refused: Mutex::default() }
    }

    pub(super) fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The topic that could last not be added to a transaction.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The error itself does not name it.
        if facility == "ADDPARTS"
            && let Some(topic) = refused_in(message)
        {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(topic.to_owned());
        }
        client::log(level, facility, message);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        client::token(&self.settings)
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            // That all brokers are down says less than why one is. When a broker hangs up at once it is all there is.
            RDKafkaErrorCode::AllBrokersDown => {
                last.get_or_insert_with(|| (code, format!("{reason}: {SILENT}")));
            }
            code => *last = Some((client::meaning(code, reason), reason.to_owned())),
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        let failed = result.as_ref().err().map(|(error, _)| error.rdkafka_error_code());
        receipt.enter(failed.map(|code| code.unwrap_or(RDKafkaErrorCode::Unknown)));
    }
}

/// The topic that a line of librdkafka's log says cannot be added to a transaction.
fn refused_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Failed to add partition \"")?;
    rest.split_once('"').map(|(topic, _)| topic)
}
