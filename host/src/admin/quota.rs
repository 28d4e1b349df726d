//! How much of the log strangers may write: some lines a minute, and one that counts the rest.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of one kind within a [`MINUTE`].
const LINES: u32 = 20;
/// How long a quota lasts.
const MINUTE: Duration = Duration::from_secs(60);
/// What a line holds of a text that the client chose, characters.
const TEXT: usize = 200;

/// The lines of one kind.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    lines: u32,
    left_out: u64,
}

/// The quotas of a server.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// Requests that the guard refuses.
    pub(super) strangers: Quota,
    /// Changes by those who may, which are refused.
    pub(super) changes: Quota,
    /// Connections that fail.
    pub(super) connections: Quota,
}

impl Quota {
    /// Whether a line may be written now. One that may not is counted.
    pub(super) fn allows(&self) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.lines < LINES {
            counted.lines += 1;
            return true;
        }
        counted.left_out += 1;
        false
    }

    /// Begins anew, and answers how many lines were left out.
    fn begin_anew(&self) -> u64 {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *counted).left_out
    }
}

impl Quotas {
    /// Counts minutes for ever.
    pub(super) async fn keep(&self) {
        loop {
            tokio::time::sleep(MINUTE).await;
            self.begin_anew();
        }
    }

    /// Begins anew, and tells the log what was left out.
    pub(super) fn begin_anew(&self) {
        for (quota, what) in [
            (&self.strangers, "more requests were refused"),
            (&self.changes, "more changes were refused"),
            (&self.connections, "more connections failed"),
        ] {
            let left_out = quota.begin_anew();
            if left_out > 0 {
                tracing::warn!(target: "tidegate::audit", count = left_out, "{what}, and left out of the log");
            }
        }
    }
}

/// The beginning of a text that a client chose, and its length where that is not all.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_that_is_used_up_counts_the_rest() {
        let quota = Quota::default();
        assert_eq!((0..LINES + 7).filter(|_| quota.allows()).count(), LINES as usize);
        assert_eq!(quota.begin_anew(), 7);
        assert!(quota.allows());
        assert_eq!(quota.begin_anew(), 0);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("/v1/é"), "/v1/é");
        assert_eq!(cut(&"é".repeat(TEXT)), "é".repeat(TEXT));
        assert_eq!(cut(&"é".repeat(TEXT + 1)), format!("{}… (402 bytes)", "é".repeat(TEXT)));
    }
}
