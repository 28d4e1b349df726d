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
    entries.retain(|entry| !entry.ends_with("secret"));
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
        fs::write(folder.path().join(format!("{number:064x}-{number:016x}")), b"").unwrap();
    }
    serve(folder.path(), hostile());
    assert_eq!(entries(folder.path()).len(), 64);
    assert_eq!(serve(folder.path(), hostile()), "");
}

#[test]
fn files_of_other_names_stay() {
    let folder = private_folder();
    let mut documents: Vec<_> = (0..100).map(|number| folder.path().join(format!("document-{number}.txt"))).collect();
    documents.extend(
        ["a".repeat(64), format!("{}-{}", "a".repeat(64), "B".repeat(16))].map(|name| folder.path().join(name)),
    );
    for document in &documents {
        fs::write(document, b"kept").unwrap();
    }
    serve(folder.path(), hostile());
    assert_eq!(entries(folder.path()).len(), documents.len() + 1);
    assert!(documents.iter().all(|document| fs::read(document).unwrap() == b"kept"));
}

#[test]
fn an_entry_that_was_forged_without_the_secret_is_compiled_anew() {
    let (folder, other) = (private_folder(), private_folder());
    serve(folder.path(), hostile());
    let entry = the_entry(folder.path());
    // What another installation has made of the same module, under its own secret, whole and sound.
    serve(other.path(), hostile());
    fs::copy(the_entry(other.path()), &entry).unwrap();
    let log = serve(folder.path(), hostile());
    assert!(log.contains("is damaged and is compiled anew"), "{log}");
    // A seal that needs no secret.
    let code = fs::read(&entry).unwrap().split_off(32);
    let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
    let seal = <sha2::Sha256 as sha2::Digest>::new_with_prefix(name.as_bytes());
    let seal = sha2::Digest::finalize(sha2::Digest::chain_update(seal, &code));
    fs::write(&entry, [&seal[..], &code].concat()).unwrap();
    let log = serve(folder.path(), hostile());
    assert!(log.contains("is damaged and is compiled anew"), "{log}");
}

#[test]
fn entries_that_others_may_write_and_links_are_not_read() {
    let folder = private_folder();
    serve(folder.path(), hostile());
    let entry = the_entry(folder.path());
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o620)).unwrap();
    let log = serve(folder.path(), hostile());
    assert!(log.contains("no file of this user alone"), "{log}");
    let elsewhere = private_folder();
    fs::rename(&entry, elsewhere.path().join("code")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("code"), &entry).unwrap();
    let log = serve(folder.path(), hostile());
    assert!(log.contains("is damaged and is compiled anew"), "{log}");
}

#[test]
fn the_folder_stays_the_one_that_was_opened() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, away) = (parent.path().join("cache"), parent.path().join("away"));
    let engine = Engine::new(Some(folder.clone()), compiler()).unwrap();
    fs::rename(&folder, &away).unwrap();
    fs::create_dir(&folder).unwrap();
    engine.load("hostile", hostile(), &Limits::default()).unwrap();
    assert_eq!(entries(&folder), [] as [PathBuf; 0]);
    assert_eq!(entries(&away).len(), 1);
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = private_folder();
    serve(folder.path(), hostile());
    let secret = folder.path().join("secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let error = format!("{:#}", Engine::new(Some(folder.path().into()), compiler()).unwrap_err());
    assert!(error.contains("`secret` is no file of this user alone"), "{error}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&secret, b"short").unwrap();
    let error = format!("{:#}", Engine::new(Some(folder.path().into()), compiler()).unwrap_err());
    assert!(error.contains("remove that file"), "{error}");
}

#[test]
fn a_parent_that_everybody_may_write_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let open = |mode: u32| {
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(mode)).unwrap();
        serve(&parent.path().join("cache"), hostile())
    };
    assert!(open(0o777).contains("may be written by everybody"));
    assert_eq!(open(0o1777), "");
}
