//! Has a child compile a module: starts it, hands it the bytes, reads its answer, and tells how it ended where it gives
//! none.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::super::Limits;
use super::super::code::Code;
use super::super::error::LoadError;
use super::refusal::{HEAD_BYTES, Head};
use crate::printable::{NAME_BYTES, printable};

/// Threads that compile. More of them would hardly be faster, and each takes memory.
const THREADS: usize = 4;
/// Code is two or three times as large as its module; a hostile one may become more.
const CODE_PER_MODULE: u64 = 4;
/// So much is read of what the child says as it aborts.
const LAST_WORDS: u64 = 4096;

/// How a child has ended.
struct Ended {
    answer: io::Result<Answer>,
    /// It was the deadline that ended it.
    is_overdue: bool,
    status: ExitStatus,
    last_words: String,
}

enum Answer {
    Code(Code),
    /// So many bytes of code: more than are taken.
    TooMuchCode(u64),
    NoCode(Head),
}

/// Verifies and compiles a module in a child of this program.
pub(super) fn compile(program: &Path, module: &str, bytes: &[u8], limits: &Limits) -> Result<Code, LoadError> {
    let most_code = (limits.module_bytes as u64).saturating_mul(CODE_PER_MODULE);
    let ended = start(program, limits).and_then(|child| attend(child, bytes, limits.compile_time, most_code)).map_err(
        |error| {
            let cause = format!("{} cannot be started: {error}", program.display());
            LoadError::NoCompiler { module: module.to_owned(), cause }
        },
    )?;
    let name = module.to_owned();
    match ended.answer {
        Ok(Answer::Code(code)) if ended.status.success() => Ok(code),
        Ok(Answer::TooMuchCode(bytes)) => Err(LoadError::CodeTooLarge { module: name, bytes, limit: most_code }),
        Ok(Answer::NoCode(Head::Refused(refusal))) => Err(refusal.of(module)),
        Ok(Answer::NoCode(Head::Unable(cause))) => {
            Err(LoadError::NoCompiler { module: name, cause: printable(&cause, NAME_BYTES) })
        }
        Ok(Answer::NoCode(Head::OutOfMemory)) => Err(too_large(name, limits)),
        _ => Err(killed(name, &ended, limits)),
    }
}

fn too_large(module: String, limits: &Limits) -> LoadError {
    LoadError::TooLargeToCompile { module, limit: limits.compile_memory_bytes >> 20 }
}

/// Why a child gave no answer.
fn killed(module: String, ended: &Ended, limits: &Limits) -> LoadError {
    let signal = ended.status.signal().and_then(Signal::from_named_raw);
    if ended.is_overdue || signal == Some(Signal::XCPU) {
        return LoadError::TooSlowToCompile { module, limit: limits.compile_time };
    }
    // The standard library says why it aborts, and the system's kill is for lack of memory. A test holds these words
    // against what is really said.
    if ended.last_words.contains("memory allocation of ") || signal == Some(Signal::KILL) {
        return too_large(module, limits);
    }
    if ended.last_words.contains("has overflowed its stack") {
        return LoadError::Overflow { module };
    }
    LoadError::CompilerFailed { module, cause: ended.status.to_string() }
}

/// Starts the child: without environment but for what bounds its threads and their memory, in a group of its own, so that
/// what a terminal sends to the program does not reach it.
fn start(program: &Path, limits: &Limits) -> io::Result<Child> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let cpu_seconds = limits.compile_time.as_secs().max(1).saturating_mul(threads as u64);
    Command::new(program)
        .arg0("tidegate")
        .arg("compile-module")
        .args([limits.compile_memory_bytes.to_string(), cpu_seconds.to_string()])
        .env_clear()
        .envs([("RAYON_NUM_THREADS", threads.to_string()), ("MALLOC_ARENA_MAX", "2".into())])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Hands the module to the child and waits for its answer and its end, which comes with the deadline at the latest.
fn attend(mut child: Child, bytes: &[u8], time: Duration, most_code: u64) -> io::Result<Ended> {
    let (Some(mut input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("it has no pipes"));
    };
    let pid = Pid::from_child(&child);
    let (ended, end) = channel::<()>();
    let (answer, last_words, is_overdue) = thread::scope(|scope| {
        let watch = move || {
            let is_overdue = end.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            if is_overdue {
                // It has not been reaped, so the number is still its own.
                let _ = kill_process(pid, Signal::KILL);
            }
            is_overdue
        };
        let watching = thread::Builder::new().name("tidegate-compile".into()).spawn_scoped(scope, watch);
        let watching = match watching {
            Ok(watching) => watching,
            Err(error) => {
                let _ = kill_process(pid, Signal::KILL);
                return Err(error);
            }
        };
        // A child that ends early does not read it all; its answer says why.
        let _ = input.write_all(&(bytes.len() as u64).to_le_bytes()).and_then(|()| input.write_all(bytes));
        drop(input);
        let answer = read(output, most_code);
        let mut last_words = Vec::new();
        let _ = errors.take(LAST_WORDS).read_to_end(&mut last_words);
        // It ends now, or by the deadline; it is reaped when nobody may kill it any more.
        let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), end).is_err_and(|error| error == Errno::INTR) {}
        drop(ended);
        let is_overdue = watching.join().unwrap_or_default();
        io::Result::Ok((answer, String::from_utf8_lossy(&last_words).into_owned(), is_overdue))
    })?;
    Ok(Ended { answer, is_overdue, status: child.wait()?, last_words })
}

/// Reads an answer to its end, and no more of it than there may be.
fn read(output: impl io::Read, most_code: u64) -> io::Result<Answer> {
    let mut output = BufReader::new(output);
    let mut head = Vec::new();
    output.by_ref().take(HEAD_BYTES).read_until(b'\n', &mut head)?;
    let length = match serde_json::from_slice(&head)? {
        Head::Code(length) if length > most_code => return Ok(Answer::TooMuchCode(length)),
        Head::Code(length) => length,
        head => return Ok(Answer::NoCode(head)),
    };
    let mut code = Vec::new();
    code.try_reserve_exact(usize::try_from(length).map_err(io::Error::other)?)?;
    // One byte more than was announced is one too many.
    output.take(length + 1).read_to_end(&mut code)?;
    if code.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Answer::Code(Code::made(code)))
}
