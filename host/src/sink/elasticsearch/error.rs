//! What went wrong in the store, and whether it is the record's fault, passes by itself, or stops the pipeline.

use serde_json::Value;

use super::http::Reply;
use crate::sink::SinkError;

/// An error as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// Its type, as `mapper_parsing_exception`; empty where there is none.
    pub(super) kind: String,
    /// Its reason, and those behind it.
    pub(super) reason: String,
}

/// Whose matter a failed item of a bulk is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The document there has a higher version: this one, where the server tells.
    Conflict(Option<u64>),
    /// The command will never be taken.
    Bad(String),
    /// It may pass.
    Retry(String),
    /// It will not pass by itself.
    Stop(String),
}

impl Cause {
    /// Of an answer that is an error as a whole.
    pub(super) fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(answer)) if answer.contains_key("error") => Self::of(&answer["error"]),
            _ => {
                let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
                Self { kind: String::new(), reason: text.trim().to_owned() }
            }
        }
    }

    /// Of an `error` member: an object, or a text.
    pub(super) fn of(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if error.is_string() {
            return Self { kind: String::new(), reason: text(error) };
        }
        let mut reason = text(&error["reason"]);
        let mut inner = &error["caused_by"];
        while inner.is_object() {
            let cause = text(&inner["reason"]);
            if !cause.is_empty() && !reason.contains(&cause) {
                reason = format!("{reason}: {cause}");
            }
            inner = &inner["caused_by"];
        }
        Self { kind: text(&error["type"]), reason }
    }

    fn told(&self) -> String {
        match (self.kind.as_str(), self.reason.as_str()) {
            ("", "") => "no reason given".to_owned(),
            // Whoever stands between, or in the store's place, may answer with a page.
            ("", reason) => {
                let words: Vec<_> = reason.split_whitespace().collect();
                words.join(" ").chars().take(200).collect()
            }
            (kind, reason) => format!("{kind}: {reason}"),
        }
    }

    pub(super) fn is_rejected_execution(&self) -> bool {
        self.kind.ends_with("rejected_execution_exception") || self.kind == "circuit_breaking_exception"
    }

    /// Whether a request was refused for what stands in it, whatever the status says.
    pub(super) fn is_input(&self) -> bool {
        let kinds = [
            "illegal_argument_exception",
            "action_request_validation_exception",
            "parse_exception",
            "parsing_exception",
            "x_content_parse_exception",
            "json_parse_exception",
            "named_object_not_found_exception",
            "number_format_exception",
            "input_coercion_exception",
        ];
        kinds.contains(&self.kind.as_str())
    }
}

/// The class of a failed item.
pub(super) fn classify(status: u16, cause: &Cause) -> Class {
    let told = cause.told();
    match (status, cause.kind.as_str()) {
        (409, "version_conflict_engine_exception") => Class::Conflict(current_version(&cause.reason)),
        (_, "index_not_found_exception") => Class::Stop(format!(
            "{told}: put the alias back; or, where the index itself was deleted, give the sink another index_prefix \
             and the pipeline another name, and new indexes are filled from the start"
        )),
        (_, "index_closed_exception" | "invalid_index_name_exception" | "invalid_alias_name_exception") => {
            Class::Stop(format!("{told}: open the index again, or correct its name"))
        }
        (_, "cluster_block_exception") => Class::Retry(blocked(&told)),
        (401 | 403, _) => Class::Stop(format!("{told}: grant the user write, create_index and manage on the indexes")),
        (400, "illegal_argument_exception") if cause.reason.starts_with("no write index is defined for alias") => {
            Class::Stop(format!("{told}: let the alias name the one index that tidegate made"))
        }
        (429, _) => Class::Retry(format!("{told}: the store has too much to do")),
        (400 | 404 | 409 | 413, _) => Class::Bad(told),
        _ if cause.is_input() => Class::Bad(told),
        _ => Class::Retry(told),
    }
}

/// What an answer that is an error as a whole means, when it is nobody's record that is to blame.
pub(super) fn failure(asked: &str, reply: &Reply) -> SinkError {
    let cause = reply.cause();
    let told = cause.told();
    match reply.status {
        _ if cause.kind == "cluster_block_exception" => SinkError::Retry(format!("{asked}: {}", blocked(&told))),
        401 => SinkError::Stop(format!(
            "{asked}: the credentials are refused ({told}): correct username and password, or api_key"
        )),
        403 => SinkError::Stop(format!(
            "{asked}: the user may not do this ({told}): grant it monitor on the cluster, and create_index, \
             manage, read and write on its indexes and the ledger"
        )),
        429 if cause.is_rejected_execution() => {
            SinkError::Retry(format!("{asked}: the store has too much to do ({told})"))
        }
        408 | 429 | 500..=599 if !cause.is_input() => {
            SinkError::Retry(format!("{asked}: HTTP {}: {told}", reply.status))
        }
        status if cause.kind.is_empty() => SinkError::Stop(format!(
            "{asked}: HTTP {status}: {told}: is `url` the address of Elasticsearch or OpenSearch?"
        )),
        status => SinkError::Stop(format!("{asked}: HTTP {status}: {told}")),
    }
}

fn blocked(told: &str) -> String {
    format!(
        "{told}: writing is blocked. Most often a disk of the cluster is fuller than its flood-stage watermark: make \
         room there; where the block then stays, set index.blocks.read_only_allow_delete (or the block that is named) \
         of the index to null"
    )
}

/// The version that a conflict names as the one that is there.
fn current_version(reason: &str) -> Option<u64> {
    let (_, rest) = reason.split_once("current version [")?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(status: u16, kind: &str, reason: &str) -> Class {
        classify(status, &Cause { kind: kind.into(), reason: reason.into() })
    }

    #[test]
    fn each_item_is_the_records_or_passes_or_stops() {
        for (status, kind) in [
            (400, "mapper_parsing_exception"),
            (400, "strict_dynamic_mapping_exception"),
            (400, "document_parsing_exception"),
        ] {
            assert!(matches!(class(status, kind, "r"), Class::Bad(_)), "{kind}");
        }
        for (status, kind) in [
            (429, "es_rejected_execution_exception"),
            (429, "circuit_breaking_exception"),
            (429, "cluster_block_exception"),
            (403, "cluster_block_exception"),
            (503, "unavailable_shards_exception"),
            (500, "node_disconnected_exception"),
            // A disk's, and no record's.
            (500, "i_o_exception"),
        ] {
            assert!(matches!(class(status, kind, "r"), Class::Retry(_)), "{kind}");
        }
        for (status, kind) in
            [(404, "index_not_found_exception"), (403, "security_exception"), (400, "index_closed_exception")]
        {
            assert!(matches!(class(status, kind, "r"), Class::Stop(_)), "{kind}");
        }
    }

    #[test]
    fn failing_disk_is_waited_for() {
        let body = br#"{"error":{"type":"i_o_exception","reason":"Input/output error"},"status":500}"#;
        let reply = Reply { status: 500, body: body.to_vec() };
        assert!(!reply.cause().is_input());
        assert!(matches!(failure("writing", &reply), SinkError::Retry(_)));
    }

    #[test]
    fn a_conflict_tells_the_version_that_is_there() {
        let reason = "[7]: version conflict, current version [281474976710661] is higher than the one provided [5]";
        assert_eq!(class(409, "version_conflict_engine_exception", reason), Class::Conflict(Some((1 << 48) + 5)));
        assert_eq!(class(409, "version_conflict_engine_exception", "other words"), Class::Conflict(None));
    }

    #[test]
    fn the_reasons_behind_a_reason_are_told() {
        let error = json!({"type": "mapper_parsing_exception", "reason": "failed to parse field [n]",
            "caused_by": {"type": "number_format_exception", "reason": "For input string: \"x\""}});
        assert_eq!(Cause::of(&error).reason, "failed to parse field [n]: For input string: \"x\"");
        assert_eq!(Cause::of_body(b"<html>").reason, "<html>");
        assert_eq!(Cause::of_body(br#"{"error":"no handler"}"#).reason, "no handler");
    }
}
