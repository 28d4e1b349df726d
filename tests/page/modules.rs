//! Modules: uploaded through the page, compared, their differences side by side, promoted, rolled back, refused.

use serde_json::json;

use super::{all_was_well, pictures, shown};
use crate::admin::asked::Held;
use crate::admin::modules::patched;
use crate::stop::orders;

const CONFIG: &str = r#"
[source.file]
paths = ["events.jsonl"]
[sinks.store.sqlite]
path = "store.db"
[admin]
listen = "127.0.0.1:0"
max_body_mb = 1
[[pipelines]]
name = "stamped"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = { messages = "store" }
[[pipelines.transforms]]
name = "stamp"
module = "{guests}/hostile.wasm"
settings = { stamp = "first", describe = { topics = ["stamps"] } }
grants = { messages = ["stamps"] }
"#;

fn serving(run: &Held) -> String {
    run.get("/v1/modules").json()["modules"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_module_is_uploaded_compared_promoted_and_rolled_back_through_the_page() {
    let mut run = Held::start(CONFIG, &[]);
    run.open();
    let events = orders();
    run.write(&events[..20]);
    let mut browser = shown(&run);
    browser.click("nav a", "Modules");
    browser.until("document.querySelector('[data-transform=stamp] .digest').innerText.length === 12");
    let first = serving(&run);
    assert_eq!(
        browser.value("document.querySelector('[data-transform=stamp] .digest').title.split('\\n')[0]"),
        first.as_str()
    );

    // One that is too large is refused where it is asked for, with the remedy.
    run.site.write("too-large.wasm", &vec![0; 8 << 20]);
    browser.click("[data-transform=stamp] button", "Upload a module…");
    browser.choose_file("dialog input[type=file]", &run.site.path("too-large.wasm"));
    browser.click("dialog button", "Upload");
    browser.until("document.querySelector('dialog .refusal').innerText.includes('max_body_mb')");
    browser.click("dialog button", "Cancel");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|complaint| complaint.contains("/v1/modules/stamped/stamp")), "{complaints:#?}");

    // What is no module is refused, with the reason.
    run.site.write("no-module.wasm", b"nothing of the kind");
    browser.click("[data-transform=stamp] button", "Upload a module…");
    browser.choose_file("dialog input[type=file]", &run.site.path("no-module.wasm"));
    browser.click("dialog button", "Upload");
    browser.until("document.querySelector('[data-offer=\"1\"] .state').innerText.endsWith('refused')");
    let reason = browser.value("document.querySelector('[data-offer=\"1\"] .wide').innerText");
    assert!(reason.as_str().unwrap().len() > 10, "{reason}");

    // One that answers one event otherwise, and one not at all.
    run.site.write("second.wasm", &patched(&json!({ "stamp": "second", "do": "nothing", "at": [25] })));
    browser.click("[data-transform=stamp] button", "Upload a module…");
    browser.choose_file("dialog input[type=file]", &run.site.path("second.wasm"));
    browser.click("dialog label", "waits for a decision");
    browser.click("dialog label", "so many events");
    browser.write("30");
    browser.click("dialog button", "Upload");
    browser.until("document.querySelector('[data-offer=\"2\"] .state').innerText.endsWith('shadow')");
    run.write(&events[20..]);
    browser.until("document.querySelector('[data-offer=\"2\"] .state').innerText.endsWith('waits')");
    browser.until("document.querySelector('nav [data-view=modules]').textContent.includes('1 to decide')");
    assert_eq!(serving(&run), first);
    pictures(&mut browser, "modules");

    // Side by side, the lines that differ marked by more than a colour.
    browser.click("[data-offer=\"2\"] a", "no. 2");
    browser.until("document.querySelectorAll('.difference').length > 10");
    let differs = browser
        .value("[...document.querySelector('.difference').querySelectorAll('tr.differs')].map(row => row.innerText)");
    let differs = differs.to_string();
    assert!(differs.contains("−") && differs.contains("\\\"first\\\""), "{differs}");
    assert!(differs.contains("+") && differs.contains("\\\"second\\\""), "{differs}");
    assert_eq!(
        browser.value("[...document.querySelectorAll('.difference mark')].slice(0, 2).map(mark => mark.innerText)"),
        json!(["first", "second"])
    );
    pictures(&mut browser, "differences");

    browser.click(".card button", "Promote…");
    browser.click("dialog button", "Promote");
    browser.until("document.querySelector('.card .state').innerText.endsWith('serving')");
    assert_ne!(serving(&run), first);
    browser.click("nav a", "Modules");
    browser.click("article button", "Roll back…");
    browser.until(&format!("document.querySelector('dialog .digest').title.startsWith('{first}')"));
    pictures(&mut browser, "roll-back");
    browser.click("dialog button", "Roll back");
    browser.until("document.querySelector('[data-offer=\"2\"] .state').innerText.endsWith('rolled-back')");
    assert_eq!(serving(&run), first);
    all_was_well(&mut browser, &run);
    drop(browser);
    run.end_well();
}
