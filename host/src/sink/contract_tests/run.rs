//! A run of a pipeline on one partition, with crashes, lost answers and other owners, held against the model.

use proptest::prelude::*;

use super::*;
use crate::command::collapse::Tagged;
use crate::sink::model::settle;

/// What happens around one batch of a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mishap {
    None,
    /// The process dies before the write.
    CrashBefore,
    /// The process dies after the write, before it knows.
    CrashAfter,
    /// The answer is lost, and the write tried again.
    AnswerLost,
    /// A successor claims, and the old owner writes once more.
    Zombie,
    /// An older batch arrives once more.
    Late,
}

/// Random events under random cuts and mishaps end where one event after the other ends.
pub(super) async fn a_run_ends_as_the_model(bench: &dyn Bench, events: Vec<Vec<Tagged>>, plan: &[(usize, Mishap)]) {
    let port = bench.ports()[0];
    let mine = |event: Vec<Tagged>| -> Vec<Tagged> {
        event.into_iter().filter(|tagged| bench.ports().contains(&tagged.command.port())).collect()
    };
    let events: Vec<_> = events.into_iter().map(mine).filter(|event| !event.is_empty()).collect();
    let mut model = Model::default();
    for event in &events {
        let _ = model.apply_event(event);
    }
    let mut sink = bench.open();
    sink.prepare("p", &declared()).await.unwrap();
    let (key, mut token) = (key("p", 0), Token(1));
    let mut next = sink.claim(&key, token, 0).await.unwrap().next;
    let mut plan = plan.iter().copied();
    let mut late: Option<(Token, u64, u64)> = None;
    while let Some(at) = events.iter().position(|event| event[0].offset >= next) {
        let (size, mishap) = plan.next().unwrap_or((events.len(), Mishap::None));
        let batch = &events[at..(at + size).min(events.len())];
        let to = batch.last().unwrap()[0].offset + 1;
        let mut crash = matches!(mishap, Mishap::CrashBefore);
        if !crash {
            let runtime = tokio::runtime::Handle::current();
            let write = |from, to, token, writes: &[Write<'_>]| {
                let step = Step { key: &key, token, from, to, epoch: 0, digest: "d", note: "" };
                tokio::task::block_in_place(|| runtime.block_on(sink.write(&step, writes)).unwrap())
            };
            let commands = || batch.iter().flatten();
            match mishap {
                Mishap::Zombie => {
                    let old = token;
                    token = Token(token.0 + 1);
                    let standing = sink.claim(&key, token, 0).await.unwrap();
                    assert_eq!(standing, stands(next, true));
                    let stale: Vec<_> = commands().map(|tagged| &tagged.command).cloned().collect();
                    assert_eq!(write(next, to, old, &writes(&stale)), Written::Fenced);
                }
                Mishap::Late => {
                    if let Some((old, from, to)) = late {
                        let stale = [put(port, "1", "0"), put(port, "2", "0")];
                        let written = write(from, to, old, &writes(&stale));
                        assert!(!matches!(written, Written::Applied | Written::Rejected(_)), "{written:?}");
                    }
                }
                _ => {}
            }
            settle(&commands(), |writes| {
                let written = write(next, to, token, writes);
                if matches!(mishap, Mishap::AnswerLost) && written == Written::Applied {
                    assert_eq!(write(next, to, token, writes), Written::AlreadyApplied);
                }
                written
            });
            late = Some((token, next, to));
            next = to;
            crash = matches!(mishap, Mishap::CrashAfter);
        }
        if crash {
            drop(sink);
            sink = bench.open();
            sink.prepare("p", &declared()).await.unwrap();
            token = Token(token.0 + 1);
            assert_eq!(sink.claim(&key, token, 0).await.unwrap().next, next);
        }
    }
    assert_eq!(bench.contents(), model);
}

pub(super) fn plan() -> impl Strategy<Value = Vec<(usize, Mishap)>> {
    use Mishap::{AnswerLost, CrashAfter, CrashBefore, Late, None, Zombie};
    let mishap = prop::sample::select(vec![None, None, CrashBefore, CrashAfter, AnswerLost, Zombie, Late]);
    prop::collection::vec((1_usize..8, mishap), 0..16)
}
