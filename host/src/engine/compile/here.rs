//! Verifies and compiles a module in this process.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmtime::OutOfMemory;

use super::super::code::Code;
use super::super::verify;
use super::nesting;
use super::refusal::{Failure, Refusal};

/// Verifies and compiles a module.
pub(super) fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Code, Failure> {
    let component = verified(bytes).map_err(Failure::Refused)?;
    let compiled = catch_unwind(AssertUnwindSafe(|| engine.precompile_component(&component)));
    match compiled {
        Ok(Ok(code)) => Ok(Code::made(code)),
        Ok(Err(error)) if error.is::<OutOfMemory>() => Err(Failure::OutOfMemory),
        Ok(Err(error)) => Err(Failure::Refused(Refusal::Compile(format!("{error:#}")))),
        Err(_) => Err(Failure::Refused(Refusal::Compile("the compiler fails on it".into()))),
    }
}

/// What reads a module's types trusts what stands in them, and panics where they refer to what is not there. Nothing
/// outlives such a failure but the bytes.
fn verified(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    nesting::check(bytes)?;
    catch_unwind(AssertUnwindSafe(|| verify::component(bytes)))
        .unwrap_or_else(|_| Err(Refusal::Damaged("its types cannot be made sense of".into())))
}
