//! The process that compiles one module: what `tidegate compile-module` does.
//!
//! It confines itself before it reads a byte, reads the module from standard input (its length as eight bytes, then
//! itself), and writes its answer to standard output: a line of JSON, and the code.

use std::fs;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::super::config;
use super::here;
use super::refusal::{Failure, Head};

/// Types and instructions nest, and what reads them may go down with them. How deep types may nest is checked before,
/// so this is far more than is needed.
const STACK_BYTES: usize = 64 << 20;
/// Descriptors: the three pipes, and a few for what the standard library asks of the system.
const DESCRIPTORS: u64 = 16;
/// Seconds of the processor after the signal that asks to end, until the one that ends.
const GRACE: u64 = 5;

/// Compiles the module on standard input within these limits, and answers on standard output. Whatever ends the process
/// before is told apart by the parent.
pub fn serve(memory_bytes: u64, cpu_seconds: u64) -> ExitCode {
    // Standard error is a pipe to the parent, for what the standard library says when it aborts.
    std::panic::set_hook(Box::new(|_| {}));
    let (head, code) = match confine(memory_bytes, cpu_seconds).and_then(|()| read_module()) {
        Ok(module) => compile(module),
        Err(error) => (Head::Unable(format!("{error:#}")), Vec::new()),
    };
    match answer(&head, &code) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn compile(module: Vec<u8>) -> (Head, Vec<u8>) {
    let compiled = thread::Builder::new().name("compile".into()).stack_size(STACK_BYTES).spawn(move || {
        let engine = wasmtime::Engine::new(&config()).map_err(|error| Head::Unable(format!("{error:#}")))?;
        here::compile(&engine, &module).map_err(|failure| match failure {
            Failure::Refused(refusal) => Head::Refused(refusal.cut()),
            Failure::OutOfMemory => Head::OutOfMemory,
        })
    });
    match compiled.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(code))) => {
            let code = code.into_bytes();
            (Head::Code(code.len() as u64), code)
        }
        Ok(Ok(Err(head))) => (head, Vec::new()),
        Ok(Err(_)) => (Head::Unable("the compiler failed unexpectedly".into()), Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Head::OutOfMemory, Vec::new()),
        Err(error) => (Head::Unable(error.to_string()), Vec::new()),
    }
}

fn answer(head: &Head, code: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.write_all(code)?;
    output.flush()
}

fn read_module() -> anyhow::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    let mut length = [0; 8];
    input.read_exact(&mut length).context("no module comes")?;
    let length = u64::from_le_bytes(length);
    let mut module = Vec::new();
    module.try_reserve_exact(usize::try_from(length)?).context("the module does not fit into its memory")?;
    input.take(length).read_to_end(&mut module)?;
    anyhow::ensure!(module.len() as u64 == length, "the module is cut off on its way");
    Ok(module)
}

/// Takes from this process what it does not need.
fn confine(memory_bytes: u64, cpu_seconds: u64) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_inherited()?;
    // Where memory runs out, this process goes first. It is no fault where that cannot be said.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    // What is there already (the program itself) is not what compiling takes.
    let memory = memory_bytes.saturating_add(STACK_BYTES as u64).saturating_add(mapped());
    for (resource, soft, hard) in [
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, DESCRIPTORS, DESCRIPTORS),
        (Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(GRACE)),
        (Resource::As, memory, memory),
    ] {
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        setrlimit(resource, limit).with_context(|| format!("cannot limit {resource:?}"))?;
    }
    Ok(())
}

/// The address space of this process, bytes.
fn mapped() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

/// Closes what the parent or its own parent has left open to it: what is opened by Rust closes by itself, but a library
/// in C or a shell may not have asked for that.
fn close_inherited() -> anyhow::Result<()> {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    let open = fs::read_dir("/proc/self/fd").context("cannot list the open descriptors")?;
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open {
        // Reading the folder took a descriptor itself, which is closed again.
        if descriptor <= 2 || fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_err() {
            continue;
        }
        // SAFETY: the descriptor is open, as has just been seen, and has no owner in this process: nothing but the first
        // lines of `serve` has run, in its only thread, and they keep none beyond the standard three.
        #[allow(unsafe_code)]
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
    Ok(())
}
