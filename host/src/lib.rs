//! tidegate: a change-data-capture engine whose logic is its users' WebAssembly.
//!
//! The modules are in the order of the data's path: a [`source`] yields records, [`event`] understands them as
//! changes, the [`engine`] hands those to the transforms, [`command`] checks what comes back, a [`sink`] executes it
//! together with the ledger, and a [`pipeline`] joins them. The [`registry`] exchanges modules meanwhile, and [`admin`]
//! looks on. [`rewind`] fills a store
//! anew beside the running pipeline. `ARCHITECTURE.md` says who may know what.

pub mod admin;
pub mod command;
pub mod config;
pub mod contract;
pub mod engine;
pub mod event;
#[cfg(test)]
mod fuzz;
pub mod inspection;
pub mod limits;
pub mod pipeline;
mod printable;
mod private;
pub mod registry;
pub mod rewind;
pub mod sink;
pub mod source;
pub mod time;
