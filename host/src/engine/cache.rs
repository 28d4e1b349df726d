//! Compiled code on disk, so that a restart need not compile.
//!
//! An entry is a file named by the module's digest and a fingerprint of all that the code depends on. It begins with an
//! HMAC-SHA256 over its own name and the hash of the code, under a secret that was drawn for this folder and lies in it. So a file
//! that is torn, altered or misplaced is known and compiled anew, and so is one that was made by somebody who can write
//! files here but not read the secret. Everything is opened relative to the folder as it was found at the start, whatever
//! its path comes to mean; a file that is not this user's alone is not read; and no file is removed whose name is not one
//! that is made here.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, linkat, open, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use super::code::Code;

/// Rises when entries come to look otherwise.
const FORMAT: u32 = 2;
const SEAL_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;
const SECRET: &str = "secret";
/// Entries that are kept. The oldest go first.
const ENTRIES: usize = 64;

/// A folder of compiled code that belongs to this user alone.
pub(super) struct Cache {
    folder: OwnedFd,
    /// Its path at the start, for messages.
    path: PathBuf,
    secret: [u8; SECRET_BYTES],
    fingerprint: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the folder, and makes it where it is missing.
    pub(super) fn open(path: &Path, engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let path = path.canonicalize()?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(open(&path, flags, Mode::empty())?);
        check_private(&folder)?;
        warn_of_writers(&path);
        let folder = OwnedFd::from(folder);
        let secret = secret(&folder).context("its secret cannot be had")?;
        let mut hasher = DefaultHasher::new();
        // The host's version stands for how modules are verified and wrapped; the engine's hash for its own version,
        // its settings and the features of the CPU.
        FORMAT.hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, path, secret, fingerprint: hasher.finish() })
    }

    /// The code of the module with this digest, if there is a sound one.
    pub(super) fn get(&self, digest: &str) -> Option<Code> {
        let name = self.name(digest);
        let read = read_private(&self.folder, &name).and_then(|mut bytes| {
            let code = bytes.split_off(SEAL_BYTES.min(bytes.len()));
            match self.seal(&name, &code).verify_slice(&bytes) {
                Ok(()) => Ok(Code::made(code)),
                Err(_) => Err(io::Error::other("it does not bear the seal of this folder")),
            }
        });
        match read {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(digest, %error, "the cached code of this module is damaged and is compiled anew");
                None
            }
        }
    }

    /// Stores compiled code. What cannot be stored is compiled again at the next start.
    pub(super) fn put(&self, digest: &str, code: &Code) {
        let name = self.name(digest);
        let seal = self.seal(&name, code.bytes()).finalize().into_bytes();
        let stored = write_private(&self.folder, &[&seal, code.bytes()], |temporary| {
            Ok(renameat(&self.folder, temporary, &self.folder, &*name)?)
        });
        if let Err(error) = stored.and_then(|()| self.prune()) {
            let path = self.path.display();
            tracing::warn!(digest, "compiled code cannot be kept in {path}: {error}; each start will compile");
        }
    }

    fn name(&self, digest: &str) -> String {
        format!("{digest}-{:016x}", self.fingerprint)
    }

    /// The HMAC over the entry's name and the hash of its code.
    fn seal(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut key = [0; 64];
        // HMAC fills a key up to the hash's block with zeros.
        key[..SECRET_BYTES].copy_from_slice(&self.secret);
        let mut seal = Hmac::<Sha256>::new(&key.into());
        seal.update(name.as_bytes());
        seal.update(&Sha256::digest(code));
        seal
    }

    /// Removes the oldest files beyond the number that is kept, and none that was not made here.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !is_own(name) {
                continue;
            }
            match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(((stat.st_mtime, stat.st_mtime_nsec), name.to_owned())),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        entries.sort();
        for (_, name) in &entries[..entries.len().saturating_sub(ENTRIES)] {
            match unlinkat(&self.folder, &**name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether this is the name of an entry, or of one that was being written.
fn is_own(name: &str) -> bool {
    let is_hexadecimal = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    if let Some(temporary) = name.strip_prefix("writing-").and_then(|rest| rest.strip_suffix(".tmp")) {
        return temporary.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    }
    name.split_once('-').is_some_and(|(digest, rest)| is_hexadecimal(digest, 64) && is_hexadecimal(rest, 16))
}

/// The secret of the folder, which is drawn where there is none.
fn secret(folder: &OwnedFd) -> io::Result<[u8; SECRET_BYTES]> {
    let read = || -> io::Result<[u8; SECRET_BYTES]> {
        let bytes = read_private(folder, SECRET)?;
        bytes.try_into().map_err(|_| io::Error::other(format!("`{SECRET}` in it is damaged: remove that file")))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut drawn = [0; SECRET_BYTES];
    getrandom::fill(&mut drawn).map_err(io::Error::other)?;
    // Of two processes that draw one at the same time, both take the one that was there first.
    let linked = write_private(folder, &[&drawn], |temporary| {
        match linkat(folder, temporary, folder, SECRET, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(unlinkat(folder, temporary, AtFlags::empty())?),
            Err(error) => Err(error.into()),
        }
    });
    linked.and_then(|()| read())
}

/// Reads a file of the folder that belongs to this user alone.
fn read_private(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let is_own = metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if !is_own {
        return Err(io::Error::other(format!("`{name}` is no file of this user alone (mode 0600)")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file of this user alone under a name of its own, and then puts it where it is to be: no reader meets half of
/// one.
fn write_private(folder: &OwnedFd, content: &[&[u8]], put: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("writing-{}-{write}.tmp", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(folder, &*temporary, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(match open() {
        // A process of the same number died while it wrote.
        Err(Errno::EXIST) => unlinkat(folder, &*temporary, AtFlags::empty()).and_then(|()| open())?,
        opened => opened?,
    });
    let written = content.iter().try_for_each(|part| file.write_all(part)).and_then(|()| put(&temporary));
    if written.is_err() {
        let _ = unlinkat(folder, &*temporary, AtFlags::empty());
    }
    written
}

/// The folder must belong to this user, and be open to nobody else: its files are run as machine code.
fn check_private(folder: &File) -> anyhow::Result<()> {
    let metadata = folder.metadata()?;
    if metadata.uid() != geteuid().as_raw() {
        bail!("it belongs to another user (number {}): give a folder of your own", metadata.uid());
    }
    if metadata.mode() & 0o077 != 0 {
        bail!("others may use it (mode {:03o}): run `chmod 700` on it, or give another", metadata.mode() & 0o777);
    }
    Ok(())
}

/// Whoever may write a folder above can take this one away, and have each start compile. They cannot have other code run:
/// the folder that was opened stays open, and another is refused that is not this user's alone.
fn warn_of_writers(path: &Path) {
    let is_writable = |folder: &&Path| {
        let Ok(metadata) = folder.metadata() else { return false };
        metadata.mode() & 0o002 != 0 && metadata.mode() & 0o1000 == 0
    };
    if let Some(folder) = path.ancestors().skip(1).find(is_writable) {
        let (path, folder) = (path.display(), folder.display());
        tracing::warn!("{folder} may be written by everybody, who can so take the compiled code in {path} away");
    }
}
