//! A failed batch is narrowed down to the changes that cause it; the others are handled.

use serde_json::json;
use tidegate::engine::{ApplyError, Limits};

use crate::harness::{fails, hasty, limited, rejected, transform};
use crate::log::capture;

#[test]
fn one_panic_among_many_is_one_rejection_with_its_message() {
    let mut transform = transform(&json!({ "do": "panic", "at": [37] }));
    let [(label, reason)] = <[_; 1]>::try_from(rejected(&mut transform, 64, &[37])).unwrap();
    assert_eq!(label, "trapped");
    assert!(reason.starts_with("the transform trapped: panicked at tests/hostile/src/lib.rs:"), "{reason}");
    assert!(reason.contains(":\\nno good\\u{7} at offset 37 (wasm trap: wasm `unreachable` instruction"), "{reason}");
}

#[test]
fn several_traps_in_a_batch_are_each_found() {
    let bad = [0, 1, 30, 31, 32, 63];
    let rejections = rejected(&mut transform(&json!({ "do": "trap", "at": bad })), 64, &bad);
    let reason = "the transform trapped: wasm trap: wasm `unreachable` instruction executed";
    assert_eq!(rejections, vec![("trapped", reason.to_owned()); 6]);
}

#[test]
fn a_batch_of_traps_is_a_batch_of_rejections() {
    let all: Vec<u64> = (0..64).collect();
    rejected(&mut transform(&json!({ "do": "trap" })), 64, &all);
}

#[test]
fn the_transform_serves_on_after_a_trap() {
    let mut transform = transform(&json!({ "do": "trap", "at": [2] }));
    for _ in 0..3 {
        rejected(&mut transform, 4, &[2]);
    }
    rejected(&mut transform, 2, &[]);
}

#[test]
fn a_stack_overflow_is_a_trap() {
    let rejections = rejected(&mut transform(&json!({ "do": "overflow", "at": [1] })), 4, &[1]);
    assert_eq!(rejections[0].0, "trapped");
}

#[test]
fn memory_without_end_is_a_trap_that_names_the_limit() {
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    let rejections = rejected(&mut limited(&json!({ "do": "allocate", "at": [1] }), &limits), 4, &[1]);
    let reason = "the transform trapped: it asked for more than the 8388608 bytes of memory that it may have: raise `memory_mb` in [engine], or have it keep less";
    assert_eq!(rejections, [("trapped", reason.to_owned())]);
}

#[test]
fn a_loop_without_end_is_a_rejection_after_a_second_try() {
    let rejections = rejected(&mut limited(&json!({ "do": "loop", "at": [5] }), &hasty()), 8, &[5]);
    let reason = "the transform did not answer within 300ms: mend it, or raise the deadline";
    assert_eq!(rejections, [("deadline", reason.to_owned())]);
}

#[test]
fn a_transform_that_loops_on_every_change_hangs() {
    let error = fails(&mut limited(&json!({ "do": "loop" }), &hasty()), 64);
    assert!(matches!(error, ApplyError::Hangs { changes: 9, .. }), "{error}");
}

#[test]
fn wrong_numbers_of_outcomes_are_bad_answers() {
    for (deed, cause) in [
        ("too-few", "it answered 0 outcomes for 1 changes"),
        ("too-many", "it answered 2 outcomes for 1 changes"),
        ("wrong-sum", "its outcomes count 2 commands, and it returned 1"),
    ] {
        let rejections = rejected(&mut transform(&json!({ "do": deed, "at": [3, 9] })), 16, &[3, 9]);
        let reason = format!("the transform's answer does not add up: {cause}");
        assert_eq!(rejections, vec![("bad-answer", reason); 2], "{deed}");
    }
}

#[test]
fn an_answer_beyond_the_limit_is_a_bad_answer() {
    let limits = Limits { answer_bytes: 1 << 19, ..Limits::default() };
    let rejections = rejected(&mut limited(&json!({ "do": "big", "at": [3] }), &limits), 8, &[3]);
    let reason = "the transform's answer cannot be read: it has more than 524288 bytes: make fewer or smaller \
                  commands, or raise the limit";
    assert_eq!(rejections, [("bad-answer", reason.to_owned())]);
}

#[test]
fn an_instance_that_wears_out_costs_no_change() {
    let mut transform = transform(&json!({ "do": "wear-out" }));
    for _ in 0..10 {
        rejected(&mut transform, 1, &[]);
    }
}

#[test]
fn an_instance_retires_after_its_calls() {
    let limits = Limits { calls_per_instance: 2, ..Limits::default() };
    let mut transform = limited(&json!({ "do": "wear-out" }), &limits);
    let (log, ()) = capture(None, || (0..10).for_each(|_| drop(rejected(&mut transform, 4, &[]))));
    assert_eq!(log, "", "no instance came to its third call, which would have told so");
}
