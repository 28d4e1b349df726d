//! Compiled code on disk, so that a restart need not compile.
//!
//! An entry is a file named by the module's digest and a fingerprint of all that the code depends on. It begins with
//! a SHA-256 over its own name and the code, so that a torn, altered or misplaced file is known and compiled anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::code::Code;

const SEAL_BYTES: usize = 32;
/// Entries that are kept. The oldest go first.
const ENTRIES: usize = 64;

/// A folder of compiled code that belongs to this user alone.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    fingerprint: u64,
}

impl Cache {
    /// Opens the folder, and makes it where it is missing.
    pub(super) fn open(folder: PathBuf, engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        check_private(&folder)?;
        let mut hasher = DefaultHasher::new();
        // The host's version stands for how modules are verified and wrapped; the engine's hash for its own version,
        // its settings and the features of the CPU.
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, fingerprint: hasher.finish() })
    }

    /// The code of the module with this digest, if there is a sound one.
    pub(super) fn get(&self, digest: &str) -> Option<Code> {
        let name = self.name(digest);
        let mut bytes = fs::read(self.folder.join(&name)).ok()?;
        let code = bytes.split_off(SEAL_BYTES.min(bytes.len()));
        if bytes != seal(&name, &code) {
            tracing::warn!(digest, "the cached code of this module is damaged and is compiled anew");
            return None;
        }
        Some(Code::made(code))
    }

    /// Stores compiled code. What cannot be stored is compiled again at the next start.
    pub(super) fn put(&self, digest: &str, code: &Code) {
        let stored = self.write(&self.name(digest), code.bytes()).and_then(|()| self.prune());
        if let Err(error) = stored {
            let folder = self.folder.display();
            tracing::warn!(digest, "compiled code cannot be kept in {folder}: {error:#}; each start will compile");
        }
    }

    fn name(&self, digest: &str) -> String {
        format!("{digest}-{:016x}", self.fingerprint)
    }

    /// Writes beside the entry and renames, so that no reader meets half an entry.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{name}.{}-{write}.tmp", std::process::id()));
        let mut file = create_private(&temporary)?;
        file.write_all(&seal(name, code))?;
        file.write_all(code)?;
        fs::rename(&temporary, self.folder.join(name))
    }

    /// Removes the oldest files beyond the number that is kept.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            entries.push((entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
        entries.sort();
        for (_, path) in &entries[..entries.len().saturating_sub(ENTRIES)] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// A SHA-256 over the entry's name and its code.
fn seal(name: &str, code: &[u8]) -> [u8; SEAL_BYTES] {
    Sha256::new().chain_update(name).chain_update(code).finalize().into()
}

fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The folder must belong to this user, and be open to nobody else: its files are run as machine code.
fn check_private(folder: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(folder)?;
    // A file that this process makes belongs to the user it runs as.
    let probe = folder.join(format!("probe.{}.tmp", std::process::id()));
    let user = create_private(&probe).and_then(|file| file.metadata()).context("it cannot be written to")?.uid();
    fs::remove_file(&probe)?;
    if metadata.uid() != user {
        bail!("it belongs to another user (number {}): give a folder of your own", metadata.uid());
    }
    if metadata.mode() & 0o077 != 0 {
        bail!("others may use it (mode {:03o}): run `chmod 700` on it, or give another", metadata.mode() & 0o777);
    }
    Ok(())
}
