//! What Redis or the way to it answers, and whether it passes.

use ::redis::{ConnectionAddr, ErrorKind, RedisError, ServerError, Value};

use crate::sink::SinkError;

/// The commands that the sink uses, as an access list names them.
pub(super) const COMMANDS: &str = "+info +watch +unwatch +multi +exec +discard +get +set +mset +unlink +type +exists \
                                   +scan +hmget +hset +hsetnx +rpush +ltrim +lrange +sadd +smembers";

/// The class of an error of the client or of a connection's first commands.
pub(super) fn classify(error: &RedisError) -> SinkError {
    if let Some(code) = error.code() {
        return class(code, error.detail().unwrap_or_default());
    }
    // What the client cannot parse it tells in several lines.
    let text = error.to_string().trim_end().replace('\n', ", ");
    match error.kind() {
        // The client says no more than that it failed, or quotes the server.
        ErrorKind::AuthenticationFailed => class("WRONGPASS", &text),
        ErrorKind::InvalidClientConfig => SinkError::Stop(format!("{text}: correct the sink's `url`")),
        _ if text.contains("certificate") => {
            SinkError::Stop(format!("{text}: name the certificates to trust by `ca`, and the host as they do"))
        }
        // The client's word for a database that cannot be selected.
        _ if text.contains("refused to switch database") => SinkError::Stop(format!(
            "{text}: give a database in `url` that the server has, and that the user may select"
        )),
        _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            SinkError::Retry(format!("{text}: is it running, and is `url` right?"))
        }
        _ if text.contains("Parse error") => SinkError::Retry(format!("{text}: is `url` the address of a Redis?")),
        _ => SinkError::Retry(text),
    }
}

/// The class of an error as a connection is made. A server with TLS hangs up on a client without.
pub(super) fn connecting(error: &RedisError, address: &ConnectionAddr) -> SinkError {
    match classify(error) {
        SinkError::Retry(told)
            if matches!(address, ConnectionAddr::Tcp(..))
                && error.is_connection_dropped()
                && !error.is_connection_refusal() =>
        {
            SinkError::Retry(format!("{told} Where it wants TLS, write `url` with rediss://"))
        }
        other => other,
    }
}

/// Whether the server took every command; the first error decides, that of a transaction only when nothing else tells.
pub(super) fn check(answers: &[Value]) -> Result<(), SinkError> {
    let errors = || answers.iter().filter_map(server_error);
    if let Some(error) = errors().find(|error| error.code() != "EXECABORT").or_else(|| errors().next()) {
        return Err(refusal(error));
    }
    // The answers of a transaction's commands lie one deeper, and only those can fail after others have been done.
    let executed = answers.iter().filter_map(|answer| match answer {
        Value::Array(inner) => Some(inner),
        _ => None,
    });
    match executed.flatten().find_map(server_error) {
        None => Ok(()),
        Some(error) => Err(SinkError::Stop(format!(
            "a part of a transaction was not executed: {}; after that is cured, delete the pipeline's keys of the \
             ledger, so that the cache is filled afresh",
            text(error.code(), error.details().unwrap_or_default())
        ))),
    }
}

/// An answer that is an error.
pub(super) fn server_error(answer: &Value) -> Option<&ServerError> {
    match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

/// The class of an error of the server.
pub(super) fn refusal(error: &ServerError) -> SinkError {
    class(error.code(), error.details().unwrap_or_default())
}

fn class(code: &str, detail: &str) -> SinkError {
    let text = text(code, detail);
    let stop = |remedy: &str| SinkError::Stop(format!("{text}: {remedy}"));
    match code {
        "WRONGPASS" | "NOAUTH" => stop("give the right user and password in `url`"),
        "NOPERM" => {
            stop(&format!("allow it, as by `ACL SETUSER <user> {COMMANDS}` and `~` patterns of the keys to write"))
        }
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTER" => stop(super::inspect::NO_CLUSTER),
        "WRONGTYPE" => {
            stop("a key of the ledger was replaced by something else; delete it, or choose another `prefix`")
        }
        "OOM" => SinkError::Retry(format!("{text}: raise maxmemory, or let entries expire")),
        "EXECABORT" => match detail.split_once("because of: ") {
            Some((_, cause)) => {
                let (code, detail) = cause.split_once(' ').unwrap_or((cause, ""));
                if code == "EXECABORT" { SinkError::Retry(text) } else { class(code.trim_start_matches('-'), detail) }
            }
            None => SinkError::Retry(text),
        },
        "READONLY" => SinkError::Retry(format!("{text}: give the address of the primary in `url`")),
        "MISCONF" => SinkError::Retry(format!("{text}: have the server able to save, as its log says")),
        "LOADING" | "BUSY" | "NOREPLICAS" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "UNBLOCKED" | "NOTREADY" => {
            SinkError::Retry(text)
        }
        _ if detail.contains("max number of clients") => SinkError::Retry(text),
        _ if detail.contains("DB index") => stop("give a database in `url` that the server has"),
        _ if detail.contains("without any password configured") => {
            stop("leave the password out of `url`, or set one on the server")
        }
        _ if detail.contains("bulk length") => stop("raise proto-max-bulk-len"),
        _ if detail.contains("unknown command") => stop("the sink needs a server that knows it, under its own name"),
        _ => SinkError::Stop(text),
    }
}

fn text(code: &str, detail: &str) -> String {
    if detail.is_empty() { code.to_owned() } else { format!("{code} {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_passes_or_stops_with_a_remedy() {
        for (code, detail) in [
            ("OOM", "command not allowed when used memory > 'maxmemory'."),
            ("READONLY", "You can't write against a read only replica."),
            ("LOADING", "Redis is loading the dataset in memory"),
            ("BUSY", "Redis is busy running a script."),
            ("CLUSTERDOWN", "The cluster is down"),
            ("MASTERDOWN", "Link with MASTER is down"),
            ("MISCONF", "Errors writing to the AOF file"),
            ("ERR", "max number of clients reached"),
            ("EXECABORT", "Transaction discarded because of: OOM command not allowed"),
            ("EXECABORT", "Transaction discarded because of previous errors."),
        ] {
            assert!(matches!(class(code, detail), SinkError::Retry(_)), "{code} {detail}");
        }
        for (code, detail, remedy) in [
            ("WRONGPASS", "invalid username-password pair or user is disabled.", "`url`"),
            ("NOAUTH", "Authentication required.", "`url`"),
            ("NOPERM", "this user has no permissions to run the 'set' command", "ACL SETUSER"),
            ("ERR", "DB index is out of range", "database"),
            ("ERR", "unknown command 'UNLINK'", "knows it"),
            ("ERR", "Protocol error: invalid bulk length", "proto-max-bulk-len"),
            ("CROSSSLOT", "Keys in request don't hash to the same slot", "cluster mode"),
            ("MOVED", "3999 127.0.0.1:6381", "cluster mode"),
            ("WRONGTYPE", "Operation against a key holding the wrong kind of value", "prefix"),
            ("EXECABORT", "Transaction discarded because of: NOPERM no permissions", "ACL SETUSER"),
            ("NEW", "never heard of", "NEW never heard of"),
        ] {
            match class(code, detail) {
                SinkError::Stop(text) => assert!(text.contains(remedy), "{text}"),
                SinkError::Retry(text) => unreachable!("{text}"),
            }
        }
    }
}
