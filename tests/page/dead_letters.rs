//! Dead letters: listed, filtered, each shown whole, and whatever they hold is text.

use serde_json::{Value, json};

use super::{all_was_well, pictures, shown};
use crate::admin::asked::Held;
use crate::stop::{ORDERS, orders};

const IMAGE: &str = "<img src=x onerror=\"document.title='taken'\">";
const SCRIPT: &str = "</pre><script>document.title='taken'</script>";

#[test]
fn a_dead_letter_is_shown_whole_and_nothing_in_it_is_more_than_text() {
    let mut run = Held::start(&format!("{ORDERS}[admin]\nlisten = \"127.0.0.1:0\"\n"), &[]);
    run.open();
    let mut events = orders();
    events.truncate(10);
    let record = |offset: u64, key: Value, value: &str| {
        json!({
            "topic": "dbserver1.public.orders", "partition": 0, "offset": offset, "key": key, "value": value,
            "headers": [[IMAGE, SCRIPT]],
        })
        .to_string()
    };
    // One that is no JSON, one whose fault quotes what it holds, with a number that a script cannot hold, and one without
    // a key.
    events.push(record(9_000, IMAGE.into(), SCRIPT));
    let value = json!({ "id": IMAGE, "service_id": SCRIPT, "points": 0, "__op": "c" }).to_string();
    let value = value.replace("\"points\":0", "\"points\":90071992547409931");
    events.push(record(9_001, json!({ "id": IMAGE }).to_string().into(), &value));
    events.push(record(9_002, Value::Null, &value));
    run.write(&events);

    let mut browser = shown(&run);
    browser.until("document.querySelector('nav [data-view=dead-letters] .badge').textContent.startsWith('3 ')");
    browser.click("nav a", "Dead letters");
    browser.until("document.querySelectorAll('tr[data-position]').length === 3");
    browser.click("tr[data-position] a", "dbserver1.public.orders-0@9000");
    browser.until(&format!("document.querySelectorAll('.letter pre')[0].innerText === {}", json!(IMAGE)));
    browser.until(&format!("document.querySelectorAll('.letter pre')[1].innerText === {}", json!(SCRIPT)));
    browser.until("document.querySelector('.letter .note').innerText.startsWith('undecodable: ')");

    browser.click("tr[data-position] a", "dbserver1.public.orders-0@9001");
    // Laid out, every digit there.
    browser.until(
        "document.querySelectorAll('.letter pre')[1].innerText.includes('\\n  \"points\": 90071992547409931,\\n')",
    );
    browser.until(&format!(
        "document.querySelectorAll('.letter pre')[1].innerText.includes({})",
        json!(json!(SCRIPT).to_string())
    ));
    browser.click(".letter summary", "1 header");
    browser.until(&format!("document.querySelector('.letter details').innerText.includes({})", json!(IMAGE)));
    pictures(&mut browser, "dead-letters");
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length"), 0);
    assert_ne!(browser.value("document.title"), "taken");

    // By fault, of which those there are can be chosen.
    let faults = browser.value("[...document.querySelector('[name=fault]').options].map(one => one.innerText)");
    assert!(faults.to_string().contains("no-key (1)"), "{faults}");
    browser.value(
        "(() => { const select = document.querySelector('[name=fault]'); select.value = 'no-key'; \
         select.dispatchEvent(new Event('change')); })()",
    );
    browser.until("document.querySelectorAll('tr[data-position]').length === 1");
    browser.until("document.querySelector('[role=status].muted').innerText === '1 letter'");
    all_was_well(&mut browser, &run);
    drop(browser);
    run.end_well();
}
