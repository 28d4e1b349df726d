//! What is Redis's own beside the contract that all sinks share.
