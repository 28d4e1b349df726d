//! Modules that misbehave: each is refused before the first event, or costs the one record that it fails at.

use tidegate_tests::{Site, text};

use crate::stop::{ORDERS, orders};

/// Orders through the module that misbehaves as its settings say.
fn hostile(settings: &str) -> String {
    ORDERS
        .replace("order_cache.wasm", "hostile.wasm")
        .replace("settings = { ttl_seconds = 600 }", &format!("settings = {settings}"))
        .replace("grants = { cache = [\"order:*\"] }", "grants = { cache = [\"k:*\"] }")
        + "\n[engine]\ndeadline_ms = 100\nmemory_mb = 16\n"
}

fn partition_0() -> Vec<String> {
    orders().into_iter().filter(|line| line.contains("\"partition\":0")).collect()
}

/// What a module did at two of sixty records, and the label that those get.
fn costs_two_records(deed: &str, fault: &str) {
    let site =
        Site::new(&hostile(&format!("{{ do = \"{deed}\", at = [7, 23], describe = {{ cache_keys = [\"k:*\"] }} }}")));
    let lines = partition_0();
    site.write("events.jsonl", lines.join("\n").as_bytes());
    site.run_well();

    let letters = site.dead_letters();
    let offsets: Vec<u64> = letters.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [7, 23], "{deed}: {letters:#?}");
    for letter in &letters {
        assert!(letter["headers"].to_string().contains(&format!("\"tidegate.fault\",\"{fault}\"")), "{deed}: {letter}");
    }
    let kept = site.query("store.db", "SELECT count(*) AS entries FROM tidegate_cache");
    assert_eq!(kept[0]["entries"], (lines.len() - 2).to_string(), "{deed}");
}

#[test]
fn a_trap_costs_its_own_record() {
    costs_two_records("trap", "trapped");
}

#[test]
fn a_panic_costs_its_own_record() {
    costs_two_records("panic", "trapped");
}

#[test]
fn an_endless_loop_costs_its_own_record() {
    costs_two_records("loop", "deadline");
}

#[test]
fn endless_allocation_costs_its_own_record() {
    costs_two_records("allocate", "trapped");
}

#[test]
fn too_few_outcomes_cost_the_record_that_got_none() {
    costs_two_records("too-few", "bad-answer");
}

#[test]
fn a_command_outside_the_declaration_costs_its_own_record() {
    let site = Site::new(&hostile("{ do = \"many\", at = [7], describe = { cache_keys = [\"k:*\"] } }"));
    let lines = partition_0();
    site.write("events.jsonl", lines.join("\n").as_bytes());
    site.run_well();
    let letters = site.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0]["headers"].to_string().contains("\"tidegate.fault\",\"not-granted\""), "{}", letters[0]);
    let kept = site.query("store.db", "SELECT count(*) AS entries FROM tidegate_cache");
    assert_eq!(kept[0]["entries"], (lines.len() - 1).to_string());
}

/// A configuration that cannot begin: exit code, and what is said.
fn refused(config: &str, prepare: impl FnOnce(&Site), parts: &[&str]) {
    let site = Site::new(config);
    prepare(&site);
    site.write("events.jsonl", orders().join("\n").as_bytes());
    let output = site.run();
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let written = site.path("store.db").exists()
        && !site.query("store.db", "SELECT 1 FROM sqlite_schema WHERE name = 'tidegate_ledger'").is_empty()
        && !site.query("store.db", "SELECT 1 FROM tidegate_ledger").is_empty();
    assert!(!written, "a module that was refused has been served: {said}");
}

#[test]
fn a_grant_that_is_missing_is_named_with_what_to_add() {
    let config = ORDERS.replace("cache = [\"order:*\"]", "cache = [\"basket:*\"]");
    refused(&config, |_| {}, &["order-cache", "order:*", "grants"]);
}

#[test]
fn a_file_that_is_no_module_is_named() {
    let config = ORDERS.replace("{guests}/order_cache.wasm", "order.wasm");
    refused(&config, |site| site.write("order.wasm", b"no module"), &["order-cache", "WebAssembly"]);
}

#[test]
fn a_module_without_the_contract_is_told_what_it_lacks() {
    let config = ORDERS.replace("{guests}/order_cache.wasm", "order.wasm");
    // The smallest module: its header and nothing else.
    refused(&config, |site| site.write("order.wasm", b"\0asm\x01\0\0\0"), &["order-cache", "tidegate:transform"]);
}

#[test]
fn a_module_that_is_not_the_pinned_one_is_refused() {
    let pinned = format!("digest = \"sha256:{}\"\nmodule = ", "0".repeat(64));
    refused(&ORDERS.replace("module = ", &pinned), |_| {}, &["order-cache", "pinned"]);
}

#[test]
fn settings_that_the_module_refuses_are_answered_in_its_words() {
    let config = ORDERS.replace("ttl_seconds = 600", "ttl = 600");
    refused(&config, |_| {}, &["order-cache", "ttl"]);
}
