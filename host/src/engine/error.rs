//! Why a module cannot serve, in words that name the module, the cause and the remedy.

use super::CONTRACT;

/// Why a module cannot be loaded or started. Each message names the module, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes do not begin like WebAssembly.
    #[error(
        "module `{module}` is not WebAssembly: it does not begin with \\0asm; give the .wasm file that the build made"
    )]
    NotWasm {
        /// The module's name.
        module: String,
    },
    /// The bytes begin like WebAssembly, but cannot be read to the end.
    #[error("module `{module}` is damaged or cut off: {cause}; copy or build it again")]
    Damaged {
        /// The module's name.
        module: String,
        /// Where and what.
        cause: String,
    },
    /// The file is larger than allowed.
    #[error(
        "module `{module}` has {bytes} bytes, more than the {limit} that a module may have; build it with \
         optimisation and without debug information, or raise the limit"
    )]
    TooLarge {
        /// The module's name.
        module: String,
        /// Its size.
        bytes: usize,
        /// The largest size allowed.
        limit: usize,
    },
    /// These are not the bytes that the configuration pins. Nothing else about them has been looked at.
    #[error(
        "module `{module}` has sha256:{found}, and sha256:{pinned} is pinned: bring the pinned module, or change \
         `digest`"
    )]
    OtherDigest {
        /// The module's name.
        module: String,
        /// The SHA-256 of the bytes.
        found: String,
        /// The one that is pinned.
        pinned: String,
    },
    /// Nothing in the module speaks of the contract.
    #[error(
        "module `{module}` is no transform: it does not name the contract {package}; build it with the SDK's `export!`, \
         or generate its bindings from {package}@{CONTRACT}", package = super::PACKAGE
    )]
    NoContract {
        /// The module's name.
        module: String,
    },
    /// The module was built for a contract that this host does not speak.
    #[error(
        "module `{module}` was built for version {found} of the contract, and this host speaks {want}: build it with \
         the SDK of that version, or run the host that fits it"
    )]
    WrongVersion {
        /// The module's name.
        module: String,
        /// The version in the module.
        found: String,
        /// What the host accepts.
        want: &'static str,
    },
    /// The module asks for functions that no transform is given.
    #[error(
        "module `{module}` imports {}, and a transform is given nothing but the contract's log: build it for \
         wasm32-unknown-unknown, without WASI and without crates that ask for a clock, randomness or files",
        .names.join(", ")
    )]
    Imports {
        /// The module's name.
        module: String,
        /// What it asks for.
        names: Vec<String>,
    },
    /// The module does not export what the contract asks for.
    #[error(
        "module `{module}` does not export {}: implement the transform and export it (in Rust by the SDK's `export!`)",
        .missing.join(", ")
    )]
    Exports {
        /// The module's name.
        module: String,
        /// What is missing.
        missing: Vec<String>,
    },
    /// The module's functions or types are not those of the contract that it names.
    #[error(
        "module `{module}` does not fit the contract that it names: {cause}; generate its bindings from the WIT file of \
         {package}@{CONTRACT}", package = super::PACKAGE
    )]
    Mismatch {
        /// The module's name.
        module: String,
        /// What differs.
        cause: String,
    },
    /// The code is not valid, or uses WebAssembly features that are switched off.
    #[error(
        "module `{module}` cannot be compiled: {cause}; build it without threads, 64-bit memories, garbage collection \
         and other features beyond WebAssembly 2.0"
    )]
    Compile {
        /// The module's name.
        module: String,
        /// The compiler's word.
        cause: String,
    },
    /// Its types nest too deep to be read safely.
    #[error(
        "module `{module}` has types within types more than {limit} deep, and that is as deep as they may nest: no \
         bindings make such types; build it again with those of the SDK"
    )]
    TooDeep {
        /// The module's name.
        module: String,
        /// How deep they may nest.
        limit: usize,
    },
    /// What verifies and compiles it has overflowed its stack.
    #[error(
        "module `{module}` cannot be compiled: its code or its types nest so deep that the compiler's stack overflowed; \
         build it from plainer code"
    )]
    Overflow {
        /// The module's name.
        module: String,
    },
    /// Compiling took more memory than it may.
    #[error(
        "module `{module}` is too large to compile: that takes more than the {limit} MiB that `compile_memory_mb` of \
         [engine] allows, or than the system has; build it smaller, with optimisation for size, or raise the limit"
    )]
    TooLargeToCompile {
        /// The module's name.
        module: String,
        /// The memory that compiling may take, MiB.
        limit: usize,
    },
    /// The code that came of it is larger than allowed.
    #[error(
        "module `{module}` becomes {bytes} bytes of machine code, more than the {limit} that follow from `max_module_mb` of \
         [engine]; build it smaller, or raise the limit"
    )]
    CodeTooLarge {
        /// The module's name.
        module: String,
        /// The size of the code.
        bytes: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// Compiling took longer than it may.
    #[error(
        "module `{module}` takes too long to compile: more than the {limit:?} that `compile_seconds` of [engine] allows; \
         build it from smaller functions, or raise the limit"
    )]
    TooSlowToCompile {
        /// The module's name.
        module: String,
        /// How long compiling may take.
        limit: std::time::Duration,
    },
    /// The process that compiled it ended before its answer, for a reason that is none of those above.
    #[error(
        "module `{module}` is refused, since the process that compiled it failed: {cause}; build it again, or report it"
    )]
    CompilerFailed {
        /// The module's name.
        module: String,
        /// How the process ended.
        cause: String,
    },
    /// There is no process to compile in. That says nothing about the module.
    #[error(
        "module `{module}` could not be compiled, since there is no process to do it in: {cause}; see that the program may \
         start itself once more (its file, memory, the number of processes)"
    )]
    NoCompiler {
        /// The module's name.
        module: String,
        /// What the system says.
        cause: String,
    },
    /// An instance of it would hold more than an instance may.
    #[error("module `{module}` asks for more than an instance may hold: {cause}")]
    Limit {
        /// The module's name.
        module: String,
        /// Which limit it meets.
        cause: String,
    },
    /// The transform refuses its settings.
    #[error("transform `{module}` refuses its settings: {reason}")]
    Refused {
        /// The module's name.
        module: String,
        /// The transform's own word.
        reason: String,
    },
    /// The transform trapped, or did not answer in time, before it handled anything.
    #[error("transform `{module}` cannot start: {cause}")]
    Start {
        /// The module's name.
        module: String,
        /// What happened.
        cause: String,
    },
    /// The transform declares what cannot be.
    #[error("transform `{module}` declares what cannot be: {cause}")]
    Declaration {
        /// The module's name.
        module: String,
        /// Place and cause.
        cause: String,
    },
    /// A later start declared something else than the first.
    #[error(
        "transform `{module}` declares something else than when it was first started with the same settings: what \
         `start` answers must depend on the settings alone"
    )]
    Changed {
        /// The module's name.
        module: String,
    },
}

/// Why a batch could not be handled, though no change of it is at fault. None of its changes counts as handled: the
/// batch may be tried again, here or with another module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A fresh instance was needed and could not be had.
    #[error(transparent)]
    Start(#[from] LoadError),
    /// So many changes of one batch ran over the deadline that the module is at fault.
    #[error(
        "transform `{module}` did not answer for {changes} changes of one batch, each tried alone with ten times its \
         deadline of {deadline:?}: mend the transform, or raise the deadline"
    )]
    Hangs {
        /// The module's name.
        module: String,
        /// How many changes ran over the deadline.
        changes: usize,
        /// The deadline of one call.
        deadline: std::time::Duration,
    },
}
