//! Which modules are taken, and in what words the others are refused.

use tidegate::engine::{Limits, LoadError};
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::harness::{BATCH, changes, engine, good, hostile};

fn refused(bytes: &[u8]) -> LoadError {
    engine().load("orders", bytes, &Limits::default()).unwrap_err()
}

/// The hostile guest as if it were built for another version of the contract, of the same length.
fn of_version(version: &str) -> Vec<u8> {
    let mut bytes = hostile().to_vec();
    for at in 0..bytes.len() - 6 {
        if bytes[at..].starts_with(b"@0.1.0") {
            bytes[at + 1..at + 6].copy_from_slice(version.as_bytes());
        }
    }
    bytes
}

/// A core module that imports these functions, each with so many parameters, and exports this one, which does nothing.
fn core(imports: &[(&str, &str, usize)], export: &str) -> Vec<u8> {
    let (mut types, mut imported) = (TypeSection::new(), ImportSection::new());
    types.ty().function([], []);
    for (index, (module, name, parameters)) in (1..).zip(imports) {
        types.ty().function(vec![ValType::I32; *parameters], []);
        imported.import(module, name, EntityType::Function(index));
    }
    let (mut functions, mut memories) = (FunctionSection::new(), MemorySection::new());
    functions.function(0);
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export(export, ExportKind::Func, u32::try_from(imports.len()).unwrap());
    exports.export("memory", ExportKind::Memory, 0);
    let (mut code, mut body) = (CodeSection::new(), Function::new([]));
    body.instructions().end();
    code.function(&body);
    let mut wasm = Module::new();
    wasm.section(&types).section(&imported).section(&functions).section(&memories).section(&exports).section(&code);
    wasm.finish()
}

/// The module with this world of this WIT package in its custom section.
fn with_world(mut wasm: Vec<u8>, wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    wasm
}

fn as_component(core: &[u8]) -> Vec<u8> {
    ComponentEncoder::default().module(core).unwrap().encode().unwrap()
}

const CONTRACT: &str = include_str!("../../../wit/transform.wit");

fn assert_serves(bytes: &[u8]) {
    let module = engine().load("orders", bytes, &Limits::default()).unwrap();
    let changes = changes(3);
    let outcomes = module.start("{}").unwrap().apply(BATCH, &changes).unwrap();
    assert_eq!(outcomes, changes.iter().map(good).collect::<Vec<_>>());
}

#[test]
fn a_core_module_is_taken() {
    assert_serves(hostile());
}

#[test]
fn a_ready_component_is_taken() {
    assert_serves(&as_component(hostile()));
}

#[test]
fn another_patch_of_the_contract_is_taken() {
    assert_serves(&of_version("0.1.7"));
    assert_serves(&as_component(&of_version("0.1.7")));
}

#[test]
fn a_module_is_known_by_the_sha256_of_its_bytes() {
    let module = engine().load("orders", hostile(), &Limits::default()).unwrap();
    let digest: String =
        <sha2::Sha256 as sha2::Digest>::digest(hostile()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((module.name(), module.digest()), ("orders", digest.as_str()));
}

#[test]
fn another_version_of_the_contract_is_named() {
    for version in ["0.2.0", "1.1.0", "0.0.1"] {
        for bytes in [of_version(version), as_component(&of_version(version))] {
            let error = refused(&bytes);
            assert!(matches!(&error, LoadError::WrongVersion { found, .. } if found == version), "{error}");
        }
    }
    assert_eq!(
        refused(&of_version("0.2.0")).to_string(),
        "module `orders` was built for version 0.2.0 of the contract, and this host speaks 0.1.x: build it with the \
         SDK of that version, or run the host that fits it"
    );
}

#[test]
fn bytes_that_are_no_module_are_named() {
    for bytes in [&b""[..], b"\0as", b"(module)", b"#!/bin/sh\n", &[0xff; 100]] {
        let error = refused(bytes);
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
    }
}

#[test]
fn a_module_that_is_cut_off_anywhere_is_refused() {
    let (core, component) = (hostile(), as_component(hostile()));
    for bytes in [core, &component] {
        for tenth in 1..40 {
            refused(&bytes[..bytes.len() * tenth / 40]);
        }
        let error = refused(&bytes[..bytes.len() - 1]);
        assert!(matches!(error, LoadError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_module_with_altered_bytes_never_panics() {
    for at in (8..hostile().len()).step_by(hostile().len() / 25) {
        let mut bytes = hostile().to_vec();
        bytes[at] ^= 0x55;
        // It may still be sound; then it may do what it likes inside its limits.
        drop(engine().load("orders", &bytes, &Limits::default()));
    }
}

#[test]
fn a_module_larger_than_the_limit_is_refused() {
    let limits = Limits { module_bytes: 1000, ..Limits::default() };
    let error = engine().load("orders", hostile(), &limits).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { limit: 1000, .. }), "{error}");
}

#[test]
fn a_module_without_the_contract_is_refused() {
    let empty = Module::new().finish();
    let foreign = with_world(Module::new().finish(), "package other:thing@1.0.0; world w {}", "w");
    for bytes in [&empty, &foreign, &as_component(&foreign)] {
        let error = refused(bytes);
        assert!(matches!(error, LoadError::NoContract { .. }), "{error}");
    }
}

#[test]
fn a_module_without_the_exports_is_refused() {
    let error = refused(&with_world(Module::new().finish(), CONTRACT, "transform"));
    assert_eq!(
        error.to_string(),
        "module `orders` does not export tidegate:transform/transformer@0.1.0#start, \
         tidegate:transform/transformer@0.1.0#apply: implement the transform and export it (in Rust by the SDK's \
         `export!`)"
    );
}

#[test]
fn a_component_without_the_exports_is_refused() {
    let wit = format!("{CONTRACT}\nworld half {{ import log; export half: func(); }}");
    let half = with_world(core(&[("tidegate:transform/log@0.1.0", "write", 3)], "half"), &wit, "half");
    let error = refused(&as_component(&half));
    assert!(matches!(&error, LoadError::Exports { .. }), "{error}");
}

#[test]
fn imports_that_a_transform_may_not_have_are_named() {
    for (module, name) in [("wasi_snapshot_preview1", "random_get"), ("env", "now")] {
        let error = refused(&with_world(core(&[(module, name, 2)], "f"), CONTRACT, "transform"));
        let wanted = format!("{module}::{name}");
        assert!(matches!(&error, LoadError::Imports { names, .. } if names == &[wanted]), "{error}");
    }
}

#[test]
fn names_of_imports_are_printable_and_cut() {
    let forged = format!("\u{1b}[2J\nINFO tidegate::audit: {}", "n".repeat(50_000));
    for bytes in [
        with_world(core(&[("env", &forged, 2)], "f"), CONTRACT, "transform"),
        with_world(core(&vec![("env", &*forged, 2); 100], "f"), CONTRACT, "transform"),
    ] {
        let error = refused(&bytes).to_string();
        assert!(error.len() < 4000 && error.contains("\\u{1b}[2J\\nINFO"), "{error}");
        assert!(!error.contains(char::is_control), "{error}");
    }
}

#[test]
fn a_component_that_asks_for_more_than_the_log_is_refused() {
    let wit = format!(
        "{CONTRACT}
        package other:host@1.0.0 {{ interface clock {{ now: func(); }} }}
        world greedy {{ import log; import other:host/clock@1.0.0; export f: func(); }}"
    );
    let imports = [("tidegate:transform/log@0.1.0", "write", 3), ("other:host/clock@1.0.0", "now", 0)];
    let error = refused(&as_component(&with_world(core(&imports, "f"), &wit, "greedy")));
    assert_eq!(
        error.to_string(),
        "module `orders` imports other:host/clock@1.0.0, and a transform is given nothing but the contract's log: \
         build it for wasm32-unknown-unknown, without WASI and without crates that ask for a clock, randomness or files"
    );
}

#[test]
fn other_types_under_the_name_of_the_contract_are_refused() {
    let other = CONTRACT.replace("        refused,\n", "        refused,\n        more,\n");
    assert_ne!(other, CONTRACT);
    let (stripped, _) = wit_component::metadata::decode(hostile()).unwrap();
    let bytes = with_world(stripped.unwrap(), &other, "transform");
    let module = engine().load("orders", &bytes, &Limits::default()).unwrap();
    let error = module.start("{}").unwrap_err();
    assert!(matches!(&error, LoadError::Mismatch { .. }), "{error}");
}

#[test]
fn code_that_is_not_valid_is_refused() {
    // `local.get 0` in the middle of the code becomes no instruction at all; the module can still be read and wrapped.
    let mut bytes = hostile().to_vec();
    let middle = bytes.len() / 2;
    let at = middle + bytes[middle..].windows(2).position(|pair| pair == [0x20, 0x00]).unwrap();
    bytes[at] = 0xff;
    let error = refused(&bytes);
    assert!(matches!(&error, LoadError::Compile { .. }), "{error}");
}
