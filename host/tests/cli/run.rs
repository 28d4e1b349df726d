//! `tidegate run`: its exit codes, and its errors without secrets.

use crate::harness::{Folder, configuration, guest};

const GOOD: &str = "settings = { ttl_seconds = 600 }\ngrants = { cache = [\"order:*\"] }";

#[test]
fn a_run_to_the_end_of_its_files_is_0_and_so_is_the_next() {
    let folder = Folder::new();
    folder.write("tidegate.toml", &configuration(&guest("order_cache.wasm"), GOOD));
    for _ in 0..2 {
        folder.tidegate(&["run", "tidegate.toml"]).done();
    }
    assert!(folder.path("store.db").is_file());
}

#[test]
fn a_preview_touches_its_own_file_alone() {
    let folder = Folder::new();
    folder.write("tidegate.toml", &configuration(&guest("order_cache.wasm"), GOOD));
    folder.tidegate(&["run", "tidegate.toml", "--preview", "out.db"]).done();
    assert!(folder.path("out.db").is_file() && !folder.path("store.db").exists());
}

#[test]
fn a_wrong_configuration_is_2_and_a_run_that_cannot_begin_is_1() {
    let folder = Folder::new();
    folder.write("tidegate.toml", &configuration("missing.wasm", GOOD));
    assert_eq!(folder.tidegate(&["run", "tidegate.toml"]).code, 2);

    let rest = GOOD.replace("600", "\"${env:SECRET}\"");
    folder.write("tidegate.toml", &configuration(&guest("order_cache.wasm"), &rest));
    let ended = folder.tidegate(&["run", "tidegate.toml"]);
    assert_eq!(ended.code, 1, "{}", ended.errors);
    assert!(ended.errors.contains("error: pipeline `orders`: ") && ended.errors.contains("${env:SECRET}"));
}
