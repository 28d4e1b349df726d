//! What went wrong in PostgreSQL, and which of the classes it is of.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sink::SinkError;

/// Why something could not be done, in the sink's own terms.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The command is bad.
    Bad(String),
    /// The command is bad, as a function of the user's says, which may have looked at other rows.
    Raised(String),
    /// The command clashes with a row that another partition may still change.
    Clash(String),
    /// A column is not there: the command is bad, unless it was there before.
    NoColumn(String),
    /// A table is not there; `Stop`, except for the ledger's own.
    NoTable(String),
    /// It may pass.
    Retry(String),
    /// It will not pass by itself.
    Stop(String),
    /// It may be the row's own; what it is where it is not.
    Doubt(Box<Problem>),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        classify(&error)
    }
}

impl Problem {
    /// For the caller of a sink, with the place put before. A command that is bad where there is no command comes
    /// from something else in the database: that is not for a record to pay for.
    pub(super) fn at(self, place: &str) -> SinkError {
        let told = |text: String| format!("{place}: {text}");
        match self {
            Self::Retry(text) => SinkError::Retry(told(text)),
            Self::Stop(text)
            | Self::NoTable(text)
            | Self::NoColumn(text)
            | Self::Bad(text)
            | Self::Raised(text)
            | Self::Clash(text) => SinkError::Stop(told(text)),
            Self::Doubt(problem) => problem.at(place),
        }
    }

    /// Whether it may pass, where no row is to blame.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Retry(_) => true,
            Self::Doubt(problem) => problem.may_pass(),
            Self::Bad(_) | Self::Raised(_) | Self::Clash(_) | Self::NoColumn(_) | Self::NoTable(_) | Self::Stop(_) => {
                false
            }
        }
    }

    /// Whether a single row may be to blame: then each is to be tried.
    pub(super) fn may_be_of_a_row(&self) -> bool {
        matches!(self, Self::Bad(_) | Self::Raised(_) | Self::Clash(_) | Self::NoColumn(_) | Self::Doubt(_))
    }

    /// What is told of it.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Bad(text) | Self::Raised(text) | Self::Clash(text) => text,
            Self::NoColumn(text) | Self::NoTable(text) | Self::Retry(text) | Self::Stop(text) => text,
            Self::Doubt(problem) => problem.text(),
        }
    }

    /// The same, with something put before its text.
    pub(super) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Bad(text) => Self::Bad(change(text)),
            Self::Raised(text) => Self::Raised(change(text)),
            Self::Clash(text) => Self::Clash(change(text)),
            Self::NoColumn(text) => Self::NoColumn(change(text)),
            Self::NoTable(text) => Self::NoTable(change(text)),
            Self::Retry(text) => Self::Retry(change(text)),
            Self::Stop(text) => Self::Stop(change(text)),
            Self::Doubt(problem) => Self::Doubt(Box::new(problem.map(change))),
        }
    }
}

/// The class of an error of the driver or the server.
fn classify(error: &Error) -> Problem {
    if let Some(error) = error.as_db_error() {
        let told = told(error);
        // The code alone says that a right is lacking.
        if error.code().code() == "42501" && error.routine() == Some("ExecWithCheckOptions") {
            return Problem::Bad(told);
        }
        return class(error.code().code(), error.message(), told);
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        // What rustls has to say is wrapped into an error of input.
        let io = inner.downcast_ref::<io::Error>();
        let wrapped = io.and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = inner.downcast_ref::<rustls::Error>().or(wrapped) {
            return Problem::Stop(format!(
                "TLS: {tls}: trust the server's certificate by `ca`, connect by the name that it bears, or see `sslmode`"
            ));
        }
        if let Some(io) = io {
            let breaks = matches!(
                io.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            );
            let remedy = if breaks { "" } else { ": is it running, and is `url` right?" };
            return Problem::Retry(format!("{error}: {io}{remedy}"));
        }
        cause = inner.source();
    }
    if error.is_closed() {
        return Problem::Retry("the connection was closed".into());
    }
    match error.source() {
        Some(cause) if cause.to_string().contains("TLS") => {
            Problem::Stop(format!("{error}: {cause}: have the server offer TLS, or see `sslmode`"))
        }
        Some(cause) => Problem::Stop(format!("{error}: {cause}")),
        None => Problem::Stop(error.to_string()),
    }
}

/// What to do about a server that takes no writes.
pub(super) const READ_ONLY: &str = "the server takes no writes: give the addresses of all servers with \
                                    `target_session_attrs=read-write` in the url, which picks the primary, or end its \
                                    read-only mode";

/// What the server says, on one line.
fn told(error: &DbError) -> String {
    let mut text = error.message().to_owned();
    if let Some(detail) = error.detail() {
        text.push_str(&format!(" ({detail})"));
    }
    if let Some(column) = error.column() {
        text.push_str(&format!(", column {column:?}"));
    }
    text.push_str(&format!(" [{}]", error.code().code()));
    text.replace('\n', " ")
}

/// The class of an SQLSTATE; `text` is what the server said.
///
/// What is not known here stops, unless one row alone is to blame: a trigger may raise any code, and some types report a
/// value that they cannot read as an error of syntax.
fn class(code: &str, message: &str, text: String) -> Problem {
    let stop = |remedy: &str| Problem::Stop(format!("{text}: {remedy}"));
    let doubt = |problem| Problem::Doubt(Box::new(problem));
    match code {
        // The row itself.
        "23502" | "23514" | "23000" | "21000" | "42804" | "428C9" | "44000" => Problem::Bad(text),
        "23503" | "23505" | "23P01" | "23001" => Problem::Clash(text),
        "42P01" => Problem::NoTable(format!("{text}: create the table, or correct its name")),
        "42703" => Problem::NoColumn(format!(
            "{text}: add the column by ALTER TABLE … ADD COLUMN, or have the transform leave it out"
        )),
        "0A000" if message.contains("system column") => Problem::Bad(text),
        "42P10" => stop("the key columns must have a unique index: CREATE UNIQUE INDEX on just these columns"),
        "42501" => stop("GRANT the user what it lacks"),
        // What was the primary, in the middle of a failover; or a server that was never one, which is told all the same.
        "25006" => Problem::Retry(format!("{text}: {READ_ONLY}")),
        "28000" if message.contains("no encryption") || message.contains("SSL off") => {
            stop("where the server wants TLS, write sslmode=require in the url; else correct pg_hba.conf on the server")
        }
        "28P01" | "28000" => stop("correct user and password in the url, or pg_hba.conf on the server"),
        "3D000" => stop("correct the database in the url, or create it"),
        "3F000" => stop("create the schema, or correct its name"),
        // A plan that has outlived an ALTER TABLE: a new connection plans anew.
        "0A000" if message.contains("cached plan") => Problem::Retry(text),
        "53100" => Problem::Retry(format!("{text}: make room on the server's disk")),
        "55P03" => Problem::Retry(format!("{text}: end what holds the lock; pg_locks shows it")),
        "57014" => Problem::Retry(format!(
            "{text}: end what holds a lock (pg_locks shows it), see why the server is slow, or raise statement_timeout_ms"
        )),
        "53300" => Problem::Retry(format!("{text}: raise max_connections, or run fewer lanes")),
        // Some extensions know no better code for a value that they cannot read.
        "XX000" => doubt(Problem::Retry(text)),
        // A function that is missing; a server whose files are broken.
        "42883" | "XX001" | "XX002" => Problem::Stop(text),
        "26000" => Problem::Retry(format!(
            "{text}: does a pooler between give each transaction another connection? Have it keep a session to its \
             connection (PgBouncer: pool_mode = session), or give the address of the server itself"
        )),
        _ => match code.get(..2).unwrap_or_default() {
            "22" | "54" => Problem::Bad(text),
            // What a trigger of the user's raises.
            "P0" => Problem::Raised(text),
            "08" | "25" | "26" | "40" | "53" | "55" | "57" | "58" if code != "55000" => Problem::Retry(text),
            _ => doubt(Problem::Stop(text)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sqlstate_is_the_records_or_passes_or_stops() {
        let class = |code| class(code, "", String::new());
        for code in ["22P02", "22003", "22P05", "23502", "23514", "42804", "428C9", "54000"] {
            assert!(matches!(class(code), Problem::Bad(_)), "{code}");
        }
        assert!(matches!(class("P0001"), Problem::Raised(_)));
        for code in ["23503", "23505", "23P01", "23001"] {
            assert!(matches!(class(code), Problem::Clash(_)), "{code}");
        }
        for code in [
            "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "08006", "58030", "25P03", "25006",
            "26000",
        ] {
            assert!(matches!(class(code), Problem::Retry(_)), "{code}");
        }
        for code in ["28P01", "28000", "3D000", "3F000", "42501", "42P10", "42883", "XX001"] {
            assert!(matches!(class(code), Problem::Stop(_)), "{code}");
        }
        for (code, may_pass) in
            [("55000", false), ("0A000", false), ("42601", false), ("UX001", false), ("XX000", true)]
        {
            let problem = class(code);
            assert!(problem.may_be_of_a_row() && problem.may_pass() == may_pass, "{code}");
        }
        assert!(matches!(class("42P01"), Problem::NoTable(_)));
        assert!(matches!(class("42703"), Problem::NoColumn(_)));
        let replan = super::class("0A000", "cached plan must not change result type", String::new());
        assert!(matches!(replan, Problem::Retry(_)));
    }
}
