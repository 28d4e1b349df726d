//! Files with data: whoever may read them sees what is in the tables.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The rights that a file is made with: its owner's alone, whatever the umask.
const MODE: u32 = 0o600;
/// The rights of those who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// Opens a file to read and to append, or makes it for its owner alone. One that is there keeps its rights, for somebody may
/// have given them; the log warns where they are everybody's.
///
/// # Errors
/// When the file can neither be opened nor made.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).mode(MODE).open(path)?;
    warn_of_rights(path, &file.metadata()?);
    Ok(file)
}

/// Makes a file for its owner alone, where there is none, for a library that opens it then. One that is there is not
/// opened: SQLite's locks are the process's, and end when it closes the file anywhere.
///
/// # Errors
/// When the file is not there and cannot be made.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    // Else another connection could have its first lock before the file is closed here.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match OpenOptions::new().create_new(true).write(true).mode(MODE).open(path) {
        Ok(_closed) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_of_rights(path, &path.metadata()?);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn warn_of_rights(path: &Path, file: &Metadata) {
    let mode = file.permissions().mode();
    if mode & OTHERS != 0 {
        let (file, mode) = (path.display(), format!("{:o}", mode & 0o777));
        tracing::warn!(%file, mode, "every user of this machine may read or write this file, which holds data: `chmod o= FILE`");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn file_that_is_made_is_its_owners_and_one_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        make(&path).unwrap();
        assert_eq!(mode(), 0o600);
        fs::remove_file(&path).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(mode(), 0o600);
        for given in [0o640, 0o644, 0o666] {
            fs::write(&path, "kept").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(given)).unwrap();
            drop(open(&path).unwrap());
            make(&path).unwrap();
            assert_eq!((mode(), fs::read_to_string(&path).unwrap()), (given, "kept".to_owned()));
        }
    }
}
