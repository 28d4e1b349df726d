//! The contract's host side, generated from `wit/transform.wit`. What goes in is borrowed, what comes back is owned.

// Generated code, and documented in the WIT file. Its unsafe blocks name each function's type a second time, after
// the generated `load` has checked that the function has it.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "transform",
    ownership: Borrowing { duplicate_if_necessary: true },
});
