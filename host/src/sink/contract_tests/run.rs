//! A run of a pipeline on one partition, with crashes, lost answers and other owners, held against the model at each
//! step: what the store holds is what the events below its ledger come to, no more, no less, and nothing older.

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
    /// Another process claims and goes on; this one writes once more, and is the one to claim next time, with all that it
    /// remembers from before.
    Takeover,
    /// An older batch arrives once more.
    Late,
}

/// Random events under random cuts and mishaps stand, at each step, where one event after the other stands.
pub(super) async fn a_run_ends_as_the_model(bench: &dyn Bench, events: Vec<Vec<Tagged>>, plan: &[(usize, Mishap)]) {
    let port = bench.ports()[0];
    let mine = |event: Vec<Tagged>| -> Vec<Tagged> {
        event.into_iter().filter(|tagged| bench.ports().contains(&tagged.command.port())).collect()
    };
    let events: Vec<_> = events.into_iter().map(mine).filter(|event| !event.is_empty()).collect();
    // What each process has in its memory, the one that owns the partition first.
    let mut sinks = [bench.open(), bench.open()];
    for sink in &sinks {
        sink.prepare("p", &strictly_declared()).await.unwrap();
        bench.prepared();
    }
    let (key, mut token) = (key("p", 0), Token(1));
    let mut next = sinks[0].claim(&key, token, 0).await.unwrap().next;
    let mut plan = plan.iter().copied();
    let mut late: Option<(Token, u64, u64)> = None;
    while let Some(at) = events.iter().position(|event| event[0].offset >= next) {
        let (size, mishap) = plan.next().unwrap_or((events.len(), Mishap::None));
        let batch = &events[at..(at + size).min(events.len())];
        let to = batch.last().unwrap()[0].offset + 1;
        let mut crash = matches!(mishap, Mishap::CrashBefore);
        if !crash {
            let runtime = tokio::runtime::Handle::current();
            let write = |sink: &dyn Sink, from, to, token, writes: &[Write<'_>]| {
                let step = Step { key: &key, token, from, to, epoch: 0, digest: "d", note: "" };
                tokio::task::block_in_place(|| runtime.block_on(sink.write(&step, writes)).unwrap())
            };
            let commands = || batch.iter().flatten();
            match mishap {
                Mishap::Zombie | Mishap::Takeover => {
                    let (old, old_sink) = (token, sinks[0].clone());
                    if matches!(mishap, Mishap::Takeover) {
                        sinks.swap(0, 1);
                    }
                    token = Token(token.0 + 1);
                    let standing = sinks[0].claim(&key, token, 0).await.unwrap();
                    assert_eq!(standing, stands(next, true));
                    let stale: Vec<_> = commands().map(|tagged| &tagged.command).cloned().collect();
                    assert_eq!(write(old_sink.as_ref(), next, to, old, &writes(&stale)), Written::Fenced);
                }
                Mishap::Late => {
                    if let Some((old, from, to)) = late {
                        let stale = [put(port, "1", "0"), put(port, "2", "0")];
                        let written = write(sinks[0].as_ref(), from, to, old, &writes(&stale));
                        assert!(!matches!(written, Written::Applied | Written::Rejected(_)), "{written:?}");
                    }
                }
                _ => {}
            }
            assert_eq!(bench.contents(), below(bench, &events, next), "before the write from {next}");
            settle(&commands(), |writes| {
                let written = write(sinks[0].as_ref(), next, to, token, writes);
                if matches!(mishap, Mishap::AnswerLost) && written == Written::Applied {
                    assert_eq!(write(sinks[0].as_ref(), next, to, token, writes), Written::AlreadyApplied);
                }
                written
            });
            late = Some((token, next, to));
            next = to;
            crash = matches!(mishap, Mishap::CrashAfter);
            assert_eq!(bench.contents(), below(bench, &events, next), "behind the write up to {next}");
        }
        if crash {
            sinks[0] = bench.open();
            sinks[0].prepare("p", &strictly_declared()).await.unwrap();
            token = Token(token.0 + 1);
            assert_eq!(sinks[0].claim(&key, token, 0).await.unwrap().next, next);
        }
    }
    assert_eq!(bench.contents(), below(bench, &events, u64::MAX));
}

/// What the events below an offset come to, one after the other.
fn below(bench: &dyn Bench, events: &[Vec<Tagged>], offset: u64) -> Model {
    let mut model = Model { strict: bench.strict(), ..Model::default() };
    for event in events.iter().take_while(|event| event[0].offset < offset) {
        // One that is refused changes nothing.
        let _ = model.apply_event(event);
    }
    Model { strict: &[], ..model }
}

pub(super) fn plan() -> impl Strategy<Value = Vec<(usize, Mishap)>> {
    use Mishap::{AnswerLost, CrashAfter, CrashBefore, Late, None, Takeover, Zombie};
    let mishap =
        prop::sample::select(vec![None, None, CrashBefore, CrashAfter, AnswerLost, Zombie, Takeover, Takeover, Late]);
    let random = prop::collection::vec((1_usize..8, mishap), 0..16).boxed();
    // One after the other, by threes, and all at once.
    let even = prop::sample::select(vec![1, 3, 100]).prop_map(|size| vec![(size, None); 100]).boxed();
    prop_oneof![3 => random, 1 => even]
}
