//! Help, and a command line that is wrong.

use crate::harness::Folder;

#[test]
fn every_command_explains_itself_and_the_exit_codes() {
    let folder = Folder::new();
    for (command, word) in [
        ("run", "--preview"),
        ("check", "CONFIG"),
        ("probe", "LISTEN"),
        ("replay", "--module"),
        ("dead-letters", "list"),
        ("new", "--sdk"),
    ] {
        let help = folder.tidegate(&[command, "--help"]);
        assert!(help.done().contains(word) && help.output.contains("Exit codes:"), "{}", help.output);
        assert!(folder.tidegate(&["--help"]).done().contains(&format!("  {command} ")));
    }
    assert_eq!(folder.tidegate(&["--version"]).done(), format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_2() {
    let folder = Folder::new();
    for wrong in [&[][..], &["fly"], &["run"], &["check", "a", "b"], &["replay", "a.jsonl"], &["new"]] {
        let ended = folder.tidegate(wrong);
        assert_eq!(ended.code, 2, "{wrong:?}: {}", ended.errors);
        assert!(ended.errors.contains("Usage:"), "{wrong:?}: {}", ended.errors);
    }
    let filter = folder.tidegate(&["--log", "a=b=c", "check", "a.toml"]);
    assert_eq!(filter.code, 2);
    assert!(filter.errors.starts_with("error: `a=b=c` is no filter for the log: "), "{}", filter.errors);
}
