//! Runs a transform behind the contract's two functions; `export!` and `testing` call in here.

use serde::{Deserialize, Deserializer};

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::change::{Batch, Change};
use crate::commands::Commands;
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::{Transform, decode};

/// A transform with its settings and what it declared.
#[derive(Debug)]
pub struct Instance<T> {
    transform: T,
    pub(crate) inputs: Inputs,
    pub(crate) outputs: Outputs,
}

impl<T: Transform> Instance<T> {
    /// Begins an instance. An error names the setting and what it should be.
    pub fn start(settings: &str) -> Result<Self, String> {
        let transform: T = decode::settings(settings)?;
        transform.check()?;
        let (inputs, outputs) = (transform.inputs(), transform.outputs());
        outputs.check()?;
        Ok(Self { transform, inputs, outputs })
    }

    /// What it declares, under the name and version of its crate.
    pub fn describe(&self, name: &str, version: &str) -> wire::Description {
        self.outputs.to_wire(name, version, self.inputs.clone().into_wire())
    }

    /// Handles a batch.
    pub fn apply(&self, batch: wire::Batch, changes: &[wire::Change]) -> wire::Outcomes {
        let batch = Batch::from_wire(batch);
        let mut commands = Commands::new(&self.outputs, changes.len());
        let outcomes = changes
            .iter()
            .map(|change| {
                let before = commands.len();
                let change = Change { batch: &batch, inputs: &self.inputs, wire: change };
                match self.transform.apply(&change, &mut commands) {
                    Ok(()) => {
                        let added = u32::try_from(commands.len() - before).unwrap_or(u32::MAX);
                        wire::Outcome { commands: added, rejection: None }
                    }
                    Err(reject) => {
                        commands.truncate(before);
                        wire::Outcome { commands: 0, rejection: Some(reject.into_wire()) }
                    }
                }
            })
            .collect();
        wire::Outcomes { commands: commands.into_wire(), outcomes }
    }
}

/// Sends the message of a panic to the host's log, where it becomes the reason in the dead letter: the trap that
/// follows says nothing.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
}

/// Reads an `Option` that must be in the row, null or not; see `#[row]`.
pub fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer)
}

/// Makes a type that implements [`Transform`](crate::Transform) the transform of this module. Once a crate, at the top
/// level of its `lib.rs`, which is built as `crate-type = ["cdylib", "rlib"]`. Name and version are those of the crate.
///
/// Only the WebAssembly build has it: natively the type is what it is, for tests.
#[macro_export]
macro_rules! export {
    ($transform:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::exports::tidegate::transform::transformer;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$crate::guest::Instance<$transform>> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Exported;

            impl transformer::Guest for Exported {
                fn start(
                    settings: ::std::string::String,
                ) -> ::std::result::Result<transformer::Description, ::std::string::String> {
                    $crate::guest::report_panics();
                    let instance = $crate::guest::Instance::<$transform>::start(&settings)?;
                    let description = instance.describe(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
                    if INSTANCE.with(|cell| cell.set(instance).is_err()) {
                        return ::std::result::Result::Err("the instance has been started before".into());
                    }
                    Ok(description)
                }

                fn apply(
                    batch: transformer::Batch,
                    changes: ::std::vec::Vec<transformer::Change>,
                ) -> transformer::Outcomes {
                    INSTANCE.with(|cell| match cell.get() {
                        Some(instance) => instance.apply(batch, &changes),
                        None => ::std::panic!("`apply` was called before `start`"),
                    })
                }
            }

    $crate::bindings::export_transform!(Exported with_types_in $crate::bindings);
        };
    };
}
