//! Modules made by code: as small as they can be, and of those kinds that took down what read or compiled them. The
//! integration tests of the engine take this file too, and hand larger ones to the process that compiles.
#![allow(dead_code)] // each of the two has its own part

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

pub(crate) const START: &str = "tidegate:transform/transformer@0.1.0#start";
pub(crate) const APPLY: &str = "tidegate:transform/transformer@0.1.0#apply";

/// Where the answer of `start` lies, and where those of `apply`.
const DESCRIPTION: i32 = 1024;
const OUTCOMES: i32 = 2048;

/// A module as small as it can be: its answers lie in its memory as they are. It has these functions more.
pub(crate) fn core(start: &str, apply: &str, more: &[Function]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function(vec![ValType::I32; 2], [ValType::I32]);
    types.ty().function(vec![ValType::I32; 10], [ValType::I32]);
    types.ty().function(vec![ValType::I32; 4], [ValType::I32]);
    types.ty().function([], []);
    let (mut functions, mut memories) = (FunctionSection::new(), MemorySection::new());
    functions.function(0).function(1).function(2);
    for _ in more {
        functions.function(3);
    }
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
    for body in more {
        code.function(body);
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

/// The module with the contract in its custom section.
pub(crate) fn with_contract(mut wasm: Vec<u8>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("transform.wit", include_str!("../../../../wit/transform.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("transform")).unwrap();
    wit_component::embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    wasm
}

/// A module that keeps the contract and has these functions more.
pub(crate) fn transform(more: &[Function]) -> Vec<u8> {
    with_contract(core(START, APPLY, more))
}

/// The core module as a component.
pub(crate) fn component(core: &[u8]) -> Vec<u8> {
    ComponentEncoder::default().module(core).unwrap().encode().unwrap()
}

/// Each kind, small enough to be read and compiled where nothing bounds that.
pub(crate) fn small_bombs() -> Vec<Vec<u8>> {
    vec![
        nested_types(90),
        nested_types(110),
        contract_of(&nested_types(110)),
        nested_components(90),
        listed_types(200),
        transform(&[locals_by_loops(10)]),
        transform(&vec![nothing(); 200]),
        transform(&[nested_blocks(500)]),
        transform(&[many_locals(1000)]),
        transform(&[long_switch(1000)]),
        huge_count(1),
        huge_count(7),
    ]
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A component of these sections.
fn component_of(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.extend(leb(content.len()));
        bytes.extend(content);
    }
    bytes
}

/// A component with an instance type in an instance type, so many levels down.
pub(crate) fn nested_types(levels: usize) -> Vec<u8> {
    let mut section = vec![1];
    section.extend([0x42, 1, 1].repeat(levels));
    section.extend([0x42, 0]);
    component_of(&[(7, section)])
}

/// A component in a component, so many levels down.
pub(crate) fn nested_components(levels: usize) -> Vec<u8> {
    (0..levels).fold(component_of(&[]), |inner, _| component_of(&[(4, inner)]))
}

/// A component in which each type is a list of the one before.
pub(crate) fn listed_types(types: usize) -> Vec<u8> {
    let mut section = leb(types);
    section.extend([0x70, 0x7d]);
    for before in 0..types - 1 {
        section.extend([vec![0x70], leb(before)].concat());
    }
    component_of(&[(7, section)])
}

/// A core module whose contract is this.
pub(crate) fn contract_of(component: &[u8]) -> Vec<u8> {
    let name = b"component-type:transform";
    let content = [&[name.len() as u8], &name[..], component].concat();
    [b"\0asm\x01\0\0\0\0".to_vec(), leb(content.len()), content].concat()
}

/// A component whose section of this kind says that it has four billion entries.
pub(crate) fn huge_count(section: u8) -> Vec<u8> {
    component_of(&[(section, vec![0xff, 0xff, 0xff, 0xff, 0x0f])])
}

pub(crate) fn nothing() -> Function {
    let mut body = Function::new([]);
    body.instructions().end();
    body
}

/// So many locals, all of which change in each of so many loops within each other: the compiler has to carry each of them
/// through each.
pub(crate) fn locals_by_loops(count: u32) -> Function {
    let mut body = Function::new([(count, ValType::I32)]);
    let mut code = body.instructions();
    for _ in 0..count {
        code.loop_(BlockType::Empty);
    }
    for local in 0..count {
        code.local_get(local).i32_const(1).i32_add().local_set(local);
    }
    for local in 0..count {
        code.local_get(local).br_if(0).end();
    }
    code.end();
    body
}

pub(crate) fn nested_blocks(levels: usize) -> Function {
    let mut body = Function::new([]);
    let mut code = body.instructions();
    for _ in 0..levels {
        code.block(BlockType::Empty);
    }
    for _ in 0..=levels {
        code.end();
    }
    body
}

/// Locals that are all read and written, in one line.
pub(crate) fn many_locals(count: u32) -> Function {
    let mut body = Function::new([(count, ValType::I64)]);
    let mut code = body.instructions();
    for local in 0..count - 1 {
        code.local_get(local).local_set(local + 1);
    }
    code.end();
    body
}

/// One jump to so many places.
pub(crate) fn long_switch(places: usize) -> Function {
    let mut body = Function::new([]);
    let mut code = body.instructions();
    code.block(BlockType::Empty).i32_const(0).br_table(vec![0; places], 0).end().end();
    body
}
