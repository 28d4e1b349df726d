//! Bytes as a module: loaded, started, and handed a change.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use super::made::{APPLY, START, component, core, small_bombs, with_contract};
use crate::contract::Operation;
use crate::engine::{Batch, Compiler, Engine, Limits};
use crate::event::Projected;
use crate::fuzz::Target;

/// An input is the bytes of a module.
pub(crate) const MODULES: Target = Target {
    name: "modules",
    run,
    seeds,
    words: &[
        "\0asm\x01\0\0\0",
        "\0asm\x0d\0\x01\0",
        "tidegate:transform/transformer@0.1.0",
        "tidegate:transform/log@0.1.0",
        "tidegate:transform/transformer@0.1.0#apply",
        "tidegate:transform/transformer@0.1.0#start",
        "component-type:transform",
        "cabi_realloc",
        "cabi_post_",
        "memory",
        "@0.2.0",
        "wasi_snapshot_preview1",
        // An endless loop, growing memory, a trap, a long copy.
        "\x03\x40\x0c\x00\x0b",
        "\x41\x01\x40\x00\x1a",
        "\x00",
        "\x41\x00\x41\x01\x41\x7f\x7c\x0a\x00\x00",
        "\x7f\x7f\x7f\x7f\x0f",
        "\x01",
    ],
    most_bytes: 1 << 15,
    runs: 150,
};

const LIMITS: Limits = Limits {
    call_deadline: Duration::from_millis(10),
    memory_bytes: 4 << 20,
    module_bytes: 1 << 14,
    compile_time: Duration::from_secs(10),
    compile_memory_bytes: 256 << 20,
    calls_per_instance: 2,
    commands_per_change: 10,
    answer_bytes: 1 << 20,
};

thread_local! {
    static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
}

fn run(input: &[u8]) {
    let loaded = ENGINE.with(|engine| {
        engine.get_or_init(|| Engine::new(None, Compiler::Here).unwrap()).load("of-a-stranger", input, &LIMITS)
    });
    let told = |error: String| {
        assert!(error.contains("`of-a-stranger`") && error.len() < 10_000, "{error}");
    };
    let started = match loaded {
        Ok(module) => module.start("{}"),
        Err(error) => return told(error.to_string()),
    };
    let mut transform = match started {
        Ok(transform) => transform,
        Err(error) => return told(error.to_string()),
    };
    assert!(transform.memory() <= LIMITS.memory_bytes);
    let changes = [change(1), change(2)];
    let batch = Batch { topic: "s.public.t", partition: 0, table: "t", columns: None };
    match transform.apply(batch, &changes) {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), changes.len());
            for outcome in outcomes {
                match outcome {
                    Ok(commands) => assert!(commands.len() <= LIMITS.commands_per_change),
                    Err(rejection) => assert!(!rejection.reason.is_empty()),
                }
            }
        }
        Err(error) => told(error.to_string()),
    }
}

fn change(offset: u64) -> Projected<'static> {
    Projected {
        offset,
        timestamp: None,
        operation: Operation::Create,
        key: Some(Cow::Borrowed("{\"id\":1}")),
        moved: None,
        before: None,
        after: Some(Cow::Borrowed("{\"id\":1,\"name\":\"a\"}")),
        unsent: Vec::new(),
        source: None,
        headers: &[],
    }
}

/// Modules as small as they can be, as core modules and as components, and small ones of those kinds that took down what
/// read or compiled them.
fn seeds() -> Vec<Vec<u8>> {
    let (start, apply) = (START, APPLY);
    let mut seeds = vec![
        with_contract(core(start, apply, &[])),
        core(start, apply, &[]),
        with_contract(core("start", "apply", &[])),
    ];
    seeds.push(component(&seeds[0]));
    seeds.extend(small_bombs());
    seeds
}

/// What is altered must be worth it.
#[test]
fn the_seeds_serve() {
    let engine = Engine::new(None, Compiler::Here).unwrap();
    for seed in [&seeds()[0], &seeds()[3]] {
        assert!(seed.len() < LIMITS.module_bytes, "{}", seed.len());
        let mut transform = engine.load("seed", seed, &LIMITS).unwrap().start("{}").unwrap();
        assert_eq!(transform.description().cache_keys, ["k*"]);
        let batch = Batch { topic: "s.public.t", partition: 0, table: "t", columns: None };
        let outcomes = transform.apply(batch, &[change(1), change(2)]).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap().len(), 1);
        assert_eq!(outcomes[1].as_ref().unwrap_err().reason, "no!");
    }
}
