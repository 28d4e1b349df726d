//! The trait that an author implements.

use serde::de::DeserializeOwned;

use crate::{Change, Commands, Inputs, Outputs, Reject};

/// A transform: the changes of a database go in, commands come out.
///
/// The type is its settings (see [`settings`](macro@crate::settings)): the host hands over the `settings` of the
/// pipeline once, when an instance begins. An instance is kept between batches and may be dropped at any time, so that
/// a transform must be a function of its input: what it remembers must not change its answers. It has no clock, no
/// randomness, no network and no files.
pub trait Transform: DeserializeOwned {
    /// Checks the settings beyond their types. The error names the setting and what it should be; the operator reads
    /// it before the module serves its first event.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// What `apply` looks at; everything unless narrowed. See [`Inputs`]: to narrow it is worth a line.
    fn inputs(&self) -> Inputs {
        Inputs::all()
    }

    /// What `apply` writes. The answer must be the same for the same settings.
    fn outputs(&self) -> Outputs;

    /// Handles one change. No command means that there is nothing to do.
    ///
    /// # Errors
    /// A rejection sends the record to the dead letters, with the reason; the commands given so far are forgotten, and
    /// the other changes of the batch go on. A panic does the same, at a higher price.
    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject>;
}
