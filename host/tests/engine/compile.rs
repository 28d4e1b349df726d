//! Modules that are hostile to what reads or compiles them: each is refused for what it is, by a process that is gone
//! afterwards, and the program takes the next one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidegate::engine::{Compiler, Engine, Limits, LoadError};

use crate::harness::{compiler, engine, hostile};
use crate::made::{
    contract_of, huge_count, listed_types, locals_by_loops, long_switch, many_locals, nested_blocks, nested_components,
    nested_types, nothing, small_bombs, transform,
};

fn refused(bytes: &[u8], limits: &Limits) -> LoadError {
    engine().load("orders", bytes, limits).unwrap_err()
}

/// Limits that are soon met.
fn tight() -> Limits {
    Limits { compile_time: Duration::from_secs(2), compile_memory_bytes: 256 << 20, ..Limits::default() }
}

#[test]
fn types_nested_too_deep_are_refused_as_such() {
    for bytes in [nested_types(101), nested_types(1_000_000), contract_of(&nested_types(100_000))] {
        let error = refused(&bytes, &Limits::default());
        assert!(matches!(error, LoadError::TooDeep { limit: 100, .. }), "{error}");
    }
    let error = refused(&nested_components(5_000), &Limits::default());
    assert!(matches!(error, LoadError::TooDeep { .. }), "{error}");
}

#[test]
fn types_that_nest_within_bounds_are_refused_for_the_missing_contract() {
    let error = refused(&nested_types(90), &Limits::default());
    assert!(matches!(error, LoadError::NoContract { .. }), "{error}");
}

#[test]
fn compilation_beyond_its_time_is_ended() {
    let limits = Limits { compile_memory_bytes: 16 << 30, ..tight() };
    let error = refused(&transform(&[locals_by_loops(1500)]), &limits);
    assert!(matches!(error, LoadError::TooSlowToCompile { .. }), "{error}");
    assert!(error.to_string().contains("2s") && error.to_string().contains("`compile_seconds`"), "{error}");
}

#[test]
fn compilation_beyond_its_memory_is_ended() {
    let limits = Limits { compile_memory_bytes: 64 << 20, ..Limits::default() };
    let functions = vec![nothing(); 60_000];
    let error = refused(&transform(&functions), &limits);
    assert!(matches!(error, LoadError::TooLargeToCompile { limit: 64, .. }), "{error}");
    assert!(error.to_string().contains("`compile_memory_mb`"), "{error}");
}

#[test]
fn code_larger_than_its_module_may_become_is_refused() {
    let bytes = transform(&vec![nothing(); 5_000]);
    let limits = Limits { module_bytes: bytes.len(), ..Limits::default() };
    let error = refused(&bytes, &limits);
    assert!(matches!(error, LoadError::CodeTooLarge { .. }), "{error}");
}

#[test]
fn every_hostile_module_ends_in_a_refusal_or_serves() {
    let mut bombs = small_bombs();
    bombs.extend((0..12).map(huge_count));
    bombs.extend([
        listed_types(100_000),
        transform(&[locals_by_loops(400)]),
        transform(&vec![many_locals(40_000); 50]),
        transform(&[nested_blocks(100_000)]),
        transform(&[long_switch(500_000)]),
    ]);
    for bytes in bombs {
        match engine().load("orders", &bytes, &tight()) {
            Ok(module) => drop(module.start("{}").unwrap()),
            Err(LoadError::NoCompiler { cause, .. } | LoadError::CompilerFailed { cause, .. }) => panic!("{cause}"),
            Err(error) => assert!(error.to_string().len() < 10_000, "{error}"),
        }
    }
    engine().load("orders", hostile(), &Limits::default()).unwrap();
}

#[test]
fn other_bytes_than_the_pinned_ones_are_not_read() {
    let pinned = "0".repeat(64);
    for bytes in [hostile(), &nested_types(1_000_000), b"no module"] {
        let error = engine().load_pinned("orders", bytes, Some(&pinned), &Limits::default()).unwrap_err();
        assert!(matches!(&error, LoadError::OtherDigest { .. }), "{error}");
    }
}

#[test]
fn a_program_that_cannot_compile_is_no_fault_of_the_module() {
    for program in ["/nonexistent/tidegate", "/"] {
        let engine = Engine::new(None, Compiler::Child(program.into())).unwrap();
        let error = engine.load("orders", hostile(), &Limits::default()).unwrap_err();
        assert!(matches!(&error, LoadError::NoCompiler { .. }), "{error}");
    }
    // Another program than `tidegate`.
    let engine = Engine::new(None, Compiler::Child("/bin/false".into())).unwrap();
    let error = engine.load("orders", hostile(), &Limits::default()).unwrap_err();
    assert!(matches!(&error, LoadError::CompilerFailed { .. }), "{error}");
}

#[test]
fn a_slow_module_holds_up_no_other() {
    let engine = engine();
    let slow = transform(&[locals_by_loops(1500)]);
    let limits = Limits { compile_time: Duration::from_secs(20), compile_memory_bytes: 16 << 30, ..Limits::default() };
    let (done, ends) = mpsc::channel();
    thread::scope(|scope| {
        let (slow_engine, slow_done) = (engine.clone(), done.clone());
        scope.spawn(move || slow_done.send(slow_engine.load("slow", &slow, &limits).is_err()));
        scope.spawn(move || done.send(engine.load("quick", hostile(), &Limits::default()).is_err()));
        assert_eq!((ends.recv(), ends.recv()), (Ok(false), Ok(true)), "the quick one first");
    });
}

/// What the system says of a child that waits for its module.
fn waiting_child(look: impl FnOnce(&str)) {
    let Compiler::Child(program) = compiler() else { unreachable!() };
    // What a careless parent leaves open: a shell that opens a file without closing it for its children.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec 7</dev/null 9</dev/zero; exec \"$0\" compile-module 134217728 30"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = format!("/proc/{}", child.id());
    // It has confined itself when it waits to read.
    let confined = || fs::read_to_string(format!("{process}/limits")).unwrap().contains("Max core file size        0 ");
    while !confined() || !fs::read_to_string(format!("{process}/wchan")).unwrap().contains("pipe") {
        assert!(child.try_wait().unwrap().is_none());
        thread::yield_now();
    }
    look(&process);
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("no module comes"), "{output:?}");
}

#[test]
fn the_child_holds_three_descriptors_and_its_limits() {
    waiting_child(|process| {
        let mut open: Vec<_> = fs::read_dir(format!("{process}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
        let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
        let limit = |name: &str| -> Vec<&str> {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().take(2).collect()
        };
        assert_eq!(limit("Max core file size"), ["0", "0"]);
        assert_eq!(limit("Max file size"), ["0", "0"]);
        assert_eq!(limit("Max open files"), ["16", "16"]);
        assert_eq!(limit("Max cpu time"), ["30", "35"]);
        let memory: u64 = limit("Max address space")[0].parse().unwrap();
        assert!((192 << 20..2 << 30).contains(&memory), "{memory}");
        assert_eq!(fs::read_to_string(format!("{process}/oom_score_adj")).unwrap().trim(), "1000");
    });
}

#[test]
fn a_module_that_is_cut_off_on_its_way_is_no_fault_of_the_module() {
    let Compiler::Child(program) = compiler() else { unreachable!() };
    let mut child = Command::new(program)
        .args(["compile-module", "134217728", "30"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&1000_u64.to_le_bytes()).unwrap();
    input.write_all(&hostile()[..500]).unwrap();
    drop(input);
    let answer = child.wait_with_output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&answer).starts_with("{\"Unable\""), "{}", String::from_utf8_lossy(&answer));
}

/// The variable that has [`overflow`] overflow its stack.
const OVERFLOW: &str = "TIDEGATE_TEST_OVERFLOW";

#[test]
fn overflow() {
    fn deeper(levels: u64) -> u64 {
        let here = std::hint::black_box([levels; 64]);
        if levels == 0 { 0 } else { deeper(levels - 1) + here[(levels % 64) as usize] }
    }
    let levels = if std::env::var_os(OVERFLOW).is_some() { u64::MAX } else { 3 };
    assert_ne!(deeper(levels), 0);
}

#[test]
fn a_child_whose_stack_overflows_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("overflows");
    let test = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\n{OVERFLOW}=1 exec {} --exact compile::overflow --nocapture\n", test.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let engine = Engine::new(None, Compiler::Child(program)).unwrap();
    let error = engine.load("orders", hostile(), &Limits::default()).unwrap_err();
    assert!(matches!(&error, LoadError::Overflow { .. }), "{error}");
}

#[test]
fn the_child_gets_nothing_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (program, seen) = (folder.path().join("looks"), folder.path().join("seen"));
    let script = format!("#!/bin/sh\n{{ pwd; tr '\\0' '\\n' </proc/$$/environ; }} >{}\n", seen.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let engine = Engine::new(None, Compiler::Child(program)).unwrap();
    engine.load("orders", hostile(), &Limits::default()).unwrap_err();
    let seen = fs::read_to_string(seen).unwrap();
    let names: Vec<_> = seen.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, ["/", "MALLOC_ARENA_MAX", "RAYON_NUM_THREADS"], "{seen}");
}

#[test]
fn the_child_dies_with_its_parent() {
    let Compiler::Child(program) = compiler() else { unreachable!() };
    let mut parent = Command::new("/bin/sh")
        .args(["-c", "exec 3<&0; \"$0\" compile-module 134217728 30 <&3 >/dev/null 2>&1 & echo $!; wait"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.stdout.take().unwrap()), &mut line).unwrap();
    let process = format!("/proc/{}", line.trim());
    let confined = || fs::read_to_string(format!("{process}/limits")).unwrap().contains("Max core file size        0 ");
    while !confined() {
        thread::yield_now();
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    // Its standard input is open still: only the death of its parent ends it.
    let lives = || fs::read_to_string(format!("{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() {
        thread::yield_now();
    }
    drop(parent.stdin.take());
}
