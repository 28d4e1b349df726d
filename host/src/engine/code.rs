//! Compiled code, and the one place where it is taken for what it is.

use wasmtime::component::Component;

/// Compiled code that this program has made.
#[derive(Debug)]
pub(super) struct Code(Vec<u8>);

impl Code {
    /// Code that this program's compiler has made: just now, in this process or in the child that it started, or earlier,
    /// in which case the cache has kept it under a seal that only this installation can make.
    pub(super) fn made(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The component, ready to be instantiated.
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` asks for bytes that wasmtime's compiler made. A `Code` has three makers, all in this
        // module's parent: `compile/here.rs`, which calls that compiler; `compile/parent.rs`, which reads the bytes from the
        // pipe of a child that it has started from this program's file and that does the former; and `cache.rs`, which has
        // checked the HMAC that it put over what one of these two made, with a secret that only this user can read. The
        // child reads a stranger's bytes, but by safe Rust alone, so that they decide what it compiles and not what it is.
        // wasmtime holds its version, its settings and the CPU's features in the bytes against the engine once more.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}
