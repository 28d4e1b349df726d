//! What a look at a source or a store has found, before anything runs.

/// What was found, a line each with cause and remedy. Nothing at all is what one hopes for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What keeps the pipeline from running.
    pub faults: Vec<String>,
    /// What the operator should know of, and what the pipeline runs with all the same.
    pub notes: Vec<String>,
}

impl Inspection {
    /// Takes in what another look has found.
    pub(crate) fn extend(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.notes.extend(other.notes);
    }
}
