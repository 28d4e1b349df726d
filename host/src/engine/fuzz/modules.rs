//! Bytes as a module: loaded, started, and handed a change.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::contract::Operation;
use crate::engine::{Batch, Engine, Limits};
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
    calls_per_instance: 2,
    commands_per_change: 10,
    answer_bytes: 1 << 20,
};

thread_local! {
    static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
}

fn run(input: &[u8]) {
    let loaded =
        ENGINE.with(|engine| engine.get_or_init(|| Engine::new(None).unwrap()).load("of-a-stranger", input, &LIMITS));
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

/// Modules as small as they can be, as core modules and as components: their answers lie in their memory as they are.
fn seeds() -> Vec<Vec<u8>> {
    let (start, apply) = ("tidegate:transform/transformer@0.1.0#start", "tidegate:transform/transformer@0.1.0#apply");
    let mut seeds = vec![with_contract(core(start, apply)), core(start, apply), with_contract(core("start", "apply"))];
    seeds.push(ComponentEncoder::default().module(&seeds[0]).unwrap().encode().unwrap());
    seeds
}

/// Where the answer of `start` lies, and where those of `apply`.
const DESCRIPTION: i32 = 1024;
const OUTCOMES: i32 = 2048;

fn core(start: &str, apply: &str) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function(vec![ValType::I32; 2], [ValType::I32]);
    types.ty().function(vec![ValType::I32; 10], [ValType::I32]);
    types.ty().function(vec![ValType::I32; 4], [ValType::I32]);
    let (mut functions, mut memories) = (FunctionSection::new(), MemorySection::new());
    functions.function(0).function(1).function(2);
    memories.memory(MemoryType { minimum: 2, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export(start, ExportKind::Func, 0).export(apply, ExportKind::Func, 1);
    exports.export("cabi_realloc", ExportKind::Func, 2).export("memory", ExportKind::Memory, 0);
    let mut code = CodeSection::new();
    for answer in [DESCRIPTION, OUTCOMES, 1 << 16] {
        let mut body = Function::new([]);
        body.instructions().i32_const(answer).end();
        code.function(&body);
    }
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(DESCRIPTION), description());
    data.active(0, &ConstExpr::i32_const(OUTCOMES), outcomes());
    let mut wasm = Module::new();
    wasm.section(&types).section(&functions).section(&memories).section(&exports).section(&code).section(&data);
    wasm.finish()
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `ok` of a description that is called `t`, in version `1`, and writes the cache's keys `k*`.
fn description() -> Vec<u8> {
    let texts = DESCRIPTION + 72;
    let mut bytes = words(&[0, texts, 1, texts + 1, 1, 0, 0, 0, DESCRIPTION + 64, 1, 0, 0, 0, 0, 0, 0, texts + 2, 2]);
    bytes.extend(b"t1k*");
    bytes
}

/// Two outcomes: a cache entry that is set, and a rejection.
fn outcomes() -> Vec<u8> {
    let (commands, outcomes, texts) = (OUTCOMES + 16, OUTCOMES + 64, OUTCOMES + 104);
    let mut bytes = words(&[commands, 1, outcomes, 2]);
    bytes.extend(words(&[0, texts, 2, texts + 2, 2, 1, 60, 0, 0, 0, 0, 0]));
    bytes.extend(words(&[1, 0, 0, 0, 0]));
    bytes.extend(words(&[0, 1, 4, texts + 4, 3]));
    bytes.extend(b"k1{}no!");
    bytes
}

fn with_contract(mut wasm: Vec<u8>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("transform.wit", include_str!("../../../../wit/transform.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("transform")).unwrap();
    wit_component::embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    wasm
}

/// What is altered must be worth it.
#[test]
fn the_seeds_serve() {
    let engine = Engine::new(None).unwrap();
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
