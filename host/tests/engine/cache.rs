//! Compiled code on disk: used, never trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tidegate::engine::{Engine, Limits};

use crate::harness::{compiler, hostile, rejected};
use crate::log::capture;

/// Loads a module through the cache, has it serve, and gives what was logged.
fn serve(folder: &Path, bytes: &[u8]) -> String {
    let (log, ()) = capture(None, || {
        let engine = Engine::new(Some(folder.into()), compiler()).unwrap();
        let module = engine.load("hostile", bytes, &Limits::default()).unwrap();
        let mut transform = module.start(&json!({ "do": "reject", "at": [1] }).to_string()).unwrap();
        rejected(&mut transform, 4, &[1]);
    });
    log
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn the_entry(folder: &Path) -> PathBuf {
    <[PathBuf; 1]>::try_from(entries(folder)).unwrap().into_iter().next().unwrap()
}

/// The hostile guest with an empty custom section more: the same code under another digest.
fn another() -> Vec<u8> {
    let mut bytes = hostile().to_vec();
    bytes.extend([0, 2, 1, b'x']);
    bytes
}

fn private_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

#[test]
fn code_is_compiled_once() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("made/on/demand");
    assert_eq!(serve(&folder, hostile()), "");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let entry = the_entry(&folder);
    let written = fs::metadata(&entry).unwrap().modified().unwrap();
    assert_eq!(serve(&folder, hostile()), "");
    assert_eq!(the_entry(&folder), entry);
    assert_eq!(fs::metadata(&entry).unwrap().modified().unwrap(), written, "it was read, not written again");
}

#[test]
fn a_torn_altered_or_foreign_entry_is_compiled_anew() {
    let (folder, other_folder) = (private_folder(), private_folder());
    serve(folder.path(), hostile());
    let entry = the_entry(folder.path());
    let sound = fs::read(&entry).unwrap();
    let mut altered = sound.clone();
    altered[sound.len() / 2] ^= 1;
    serve(other_folder.path(), &another());
    let foreign = fs::read(the_entry(other_folder.path())).unwrap();
    for broken in [&sound[..sound.len() / 2], &sound[..20], &[], &altered, &foreign] {
        fs::write(&entry, broken).unwrap();
        let log = serve(folder.path(), hostile());
        assert!(log.contains("is damaged and is compiled anew"), "{log}");
        assert_eq!(serve(folder.path(), hostile()), "", "the entry is sound again");
    }
    assert_eq!(entries(folder.path()), [entry]);
}

#[test]
fn the_folder_must_be_private() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Engine::new(Some(folder.path().into()), compiler()).unwrap_err();
    let shown = folder.path().display();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "the folder {shown} cannot hold compiled code: others may use it (mode 755): run `chmod 700` on it, or \
             give another"
        )
    );
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Engine::new(Some(file.path().into()), compiler()).unwrap_err();
    assert!(format!("{error:#}").contains("cannot hold compiled code"), "{error:#}");
}

#[test]
fn old_entries_make_room() {
    let folder = private_folder();
    for number in 0..100 {
        fs::write(folder.path().join(format!("old-{number}")), b"").unwrap();
    }
    serve(folder.path(), hostile());
    assert_eq!(entries(folder.path()).len(), 64);
    assert_eq!(serve(folder.path(), hostile()), "");
}
