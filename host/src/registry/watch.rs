//! Sees when a module's file holds something else: written over, replaced by another, or behind a link that was moved,
//! as Kubernetes does it for what it mounts.
//!
//! A file is looked at from time to time rather than by the system's notices, which do not come for all of these, nor on
//! every file system. It is read when two looks find it alike, so that one that is being written is waited for.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What changes whenever a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the contents, and of anything.
    changed: [i64; 4],
}

/// A file that is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    /// As it was at the last look.
    seen: Option<Stamp>,
    /// As it was when it was last read.
    read: Option<Stamp>,
}

impl Watch {
    /// Watches a file, of which nothing is known yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), seen: None, read: None }
    }

    /// Looks at the file; answers what it holds when that may be something new and is whole, as far as can be seen.
    pub(super) fn look(&mut self) -> Option<Vec<u8>> {
        let now = stamp(&self.path);
        let at_rest = now == std::mem::replace(&mut self.seen, now);
        if now.is_none() || now == self.read || !at_rest {
            return None;
        }
        let bytes = fs::read(&self.path).ok()?;
        if stamp(&self.path) != now {
            return None;
        }
        self.read = now;
        Some(bytes)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().filter(Metadata::is_file).map(|file| Stamp {
        device: file.dev(),
        inode: file.ino(),
        bytes: file.size(),
        changed: [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder, and a file in it that has been read.
    fn one() -> (tempfile::TempDir, PathBuf, Watch) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("module.wasm");
        fs::write(&file, "one").unwrap();
        let watch = read_once(&file);
        (folder, file, watch)
    }

    fn read_once(file: &Path) -> Watch {
        let mut watch = Watch::new(file);
        assert_eq!((watch.look(), watch.look()), (None, Some(b"one".to_vec())));
        watch
    }

    #[test]
    fn a_file_that_stays_as_it_is_is_read_once() {
        let (_folder, _file, mut watch) = one();
        assert_eq!((watch.look(), watch.look()), (None, None));
    }

    #[test]
    fn a_file_that_is_replaced_is_read_once_when_it_is_at_rest() {
        let (folder, file, mut watch) = one();
        let next = folder.path().join("next");
        fs::write(&next, "two").unwrap();
        fs::rename(&next, &file).unwrap();
        assert_eq!((watch.look(), watch.look(), watch.look()), (None, Some(b"two".to_vec()), None));
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let (_folder, file, mut watch) = one();
        for content in ["t", "tw", "two"] {
            fs::write(&file, content).unwrap();
            assert_eq!(watch.look(), None);
        }
        assert_eq!(watch.look(), Some(b"two".to_vec()));
    }

    #[test]
    fn a_link_that_is_moved_is_another_file() {
        // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a folder by its time.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, content) in [("1", "one"), ("2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("module.wasm"), content).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/module.wasm", at("module.wasm")).unwrap();
        let mut watch = read_once(&at("module.wasm"));
        symlink("2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!((watch.look(), watch.look()), (None, Some(b"two".to_vec())));
    }

    #[test]
    fn a_file_that_goes_away_is_waited_for() {
        let (_folder, file, mut watch) = one();
        fs::remove_file(&file).unwrap();
        assert_eq!((watch.look(), watch.look()), (None, None));
        fs::write(&file, "two").unwrap();
        assert_eq!((watch.look(), watch.look()), (None, Some(b"two".to_vec())));
    }
}
