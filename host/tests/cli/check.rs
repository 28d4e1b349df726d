//! `tidegate check` names everything that is wrong, a line each.

use crate::harness::{Folder, configuration, guest};

const GOOD: &str = "settings = { ttl_seconds = 600 }\ngrants = { cache = [\"order:*\"] }";

fn check(configuration: &str) -> (i32, String) {
    let folder = Folder::new();
    folder.write("tidegate.toml", configuration);
    let ended = folder.tidegate(&["check", "tidegate.toml"]);
    (ended.code, if ended.output.is_empty() { ended.errors } else { ended.output })
}

#[test]
fn nothing_wrong_is_0() {
    let (code, said) = check(&configuration(&guest("order_cache.wasm"), GOOD));
    assert_eq!((code, said.as_str()), (0, "tidegate.toml: nothing wrong (pipelines: 1, transforms: 1)\n"));
}

#[test]
fn every_problem_of_the_file_is_a_line_on_standard_error() {
    let (code, said) = check("[sink]\n[[pipelines]]\nname = \"${env:SECRET} \"\nformat = \"flat\"\n");
    assert_eq!(code, 2);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() >= 6 && lines[0].starts_with("error: tidegate.toml:1: "), "{said}");
    assert!(lines[1..].iter().all(|line| line.starts_with("tidegate.toml:") && line.contains("; ")), "{said}");
}

#[test]
fn a_grant_that_is_missing_is_named_with_the_line_that_would_grant_it() {
    let rest = "settings = { ttl_seconds = 600 }\ngrants = { cache = [\"ordr:*\"] }";
    let (code, said) = check(&configuration(&guest("order_cache.wasm"), rest));
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "tidegate.toml: pipeline `orders`, transform `order-cache`, grants: it writes cache keys [\"order:*\"], which its \
         grants do not hold; if that is right, set cache = [\"ordr:*\", \"order:*\"] in them\n"
    );
}

#[test]
fn settings_that_the_module_refuses_are_named_without_the_secret_in_them() {
    let rest = GOOD.replace("600", "\"${env:SECRET}\"");
    let (code, said) = check(&configuration(&guest("order_cache.wasm"), &rest));
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "tidegate.toml: pipeline `orders`, transform `order-cache`, settings: transform `order-cache` refuses its \
         settings: setting `ttl_seconds`: invalid type: string \"${env:SECRET}\", expected u32; correct the pipeline's \
         `settings`\n"
    );
}

#[test]
fn a_reason_of_two_lines_is_one_finding_on_one_line() {
    let (code, said) = check(&configuration(&guest("hostile.wasm"), "settings = { start = \"refuse\" }"));
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    assert!(said.contains(", settings: ") && said.contains("must not be"), "{said}");
}

#[test]
fn a_module_that_traps_at_its_start_is_named() {
    let (code, said) = check(&configuration(&guest("hostile.wasm"), "settings = { start = \"trap\" }"));
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    assert!(said.contains(", module: transform `order-cache` cannot start: "), "{said}");
}

#[test]
fn a_module_that_is_not_there_is_named_with_its_line() {
    let (code, said) = check(&configuration("missing.wasm", GOOD));
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "error: tidegate.toml:13: pipelines[0].transforms[0].module: there is no file `./missing.wasm`; correct the \
         path, or build the module\n"
    );
}

#[test]
fn a_file_that_is_no_module_is_named() {
    let (code, said) = check(&configuration("tidegate.toml", GOOD));
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    assert!(said.contains(", module: module `order-cache` is not WebAssembly: "), "{said}");
}

#[test]
fn another_digest_than_the_pinned_one_is_named_with_both() {
    let pinned = "0".repeat(64);
    let rest = format!("{GOOD}\ndigest = \"sha256:{pinned}\"");
    let (code, said) = check(&configuration(&guest("order_cache.wasm"), &rest));
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    assert!(said.contains(", digest: module `order-cache` has sha256:") && said.contains(&pinned), "{said}");

    let right = said.split_once("has sha256:").unwrap().1.split_once(',').unwrap().0;
    let (code, said) = check(&configuration(&guest("order_cache.wasm"), &rest.replace(&pinned, right)));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_pattern_that_no_file_matches_is_named_as_the_source_would() {
    let text = configuration(&guest("order_cache.wasm"), GOOD).replace("paths = [", "paths = [\"${env:SECRET}/*\", ");
    let (code, said) = check(&text);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "tidegate.toml: source.file.paths: no file matches `./${env:SECRET}/*`: correct `paths` of [source.file], or \
         record events there\n"
    );
}
