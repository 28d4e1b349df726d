//! Dead letters: listed, filtered, each shown whole, and whatever they hold is text.

use serde_json::{Value, json};

use super::browser::Browser;
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

#[test]
fn odd_record_is_listed_and_opened() {
    let mut run = Held::start(&format!("{ORDERS}[admin]\nlisten = \"127.0.0.1:0\"\n"), &[]);
    run.open();
    let record = |offset: u64, timestamp: i64, value: &str, headers: Value| {
        json!({
            "topic": "dbserver1.public.orders", "partition": 0, "offset": offset, "timestamp": timestamp,
            "key": "{\"id\":1}", "value": value, "headers": headers,
        })
        .to_string()
    };
    let nested = "[".repeat(9_000) + &"]".repeat(9_000);
    let many: Vec<_> = (0..1_000).map(|number| json!([format!("header-{number}"), "x".repeat(5_000)])).collect();
    let long = format!("{{\"id\": \"{}\"", "🦀\\n".repeat(200_000));
    let odd = "\u{202e}\u{0}\u{feff}\u{fffe}a\u{301}\u{1f468}\u{200d}\u{1f469}\u{2028}\u{85}";
    let none = json!([]);
    let events = [
        // The first millisecond of the year 10000, and times that no calendar has.
        record(9_000, 253_402_300_800_000, "{", none.clone()),
        record(9_001, i64::MAX, "{", none.clone()),
        record(9_002, i64::MIN, "{", none.clone()),
        record(9_003, 0, &nested, none.clone()),
        record(9_004, 0, &"[{\"a\":".repeat(20_000), none.clone()),
        record(9_005, 0, &long, none.clone()),
        record(9_006, 0, &"\n".repeat(100_000), none.clone()),
        record(9_007, 0, odd, none),
        record(9_008, 0, "{", many.into()),
    ];
    run.write(&events);

    let mut browser = shown(&run);
    browser.until("document.querySelector('nav [data-view=dead-letters] .badge').textContent.startsWith('9 ')");
    browser.click("nav a", "Dead letters");
    browser.until("document.querySelectorAll('tr[data-position]').length === 9");
    browser.until("document.querySelector('tr[data-position$=\"@9000\"]').innerText.includes('10000-01-01')");
    let value = "document.querySelectorAll('.letter pre')[1]";
    let open = |browser: &mut Browser, offset: u64| {
        let position = format!("dbserver1.public.orders-0@{offset}");
        browser.value(&format!("location.hash = '#dead-letters/' + encodeURIComponent('{position}')"));
        browser.until(&format!(
            "document.querySelector('.letter h2').innerText === '{position}' && {value} !== undefined"
        ));
        // What is shown at once is little, whatever the record holds.
        let size = browser.value("document.querySelector('.letter').textContent.length");
        assert!(size.as_u64().unwrap() < 300_000, "{position}: {size}");
    };
    for offset in 9_000..9_009 {
        open(&mut browser, offset);
        if offset == 9_003 {
            browser.until(&format!("{value}.innerText.startsWith('[\\n  [\\n    [\\n')"));
            pictures(&mut browser, "dead-letter-nested");
        }
    }
    // The rest of what is long is there on demand, to its end.
    browser.until("document.querySelectorAll('.letter tbody tr').length === 200");
    browser.click(".letter summary", "1000 headers");
    for shown in [400, 600, 800, 1000] {
        browser.click(".letter button", "Show more");
        browser.until(&format!("document.querySelectorAll('.letter tbody tr').length === {shown}"));
    }
    browser
        .until("[...document.querySelectorAll('.letter button')].every(one => !one.innerText.includes('Show more'))");
    open(&mut browser, 9_005);
    browser.click(".letter button", "Show more");
    let whole = "(() => { for (let one; (one = document.querySelector('.letter .paged button')); ) { one.click(); } \
                 return document.querySelectorAll('.letter pre')[1].textContent; })()";
    assert!(browser.value(whole) == long.as_str(), "what is shown in pieces is another text");
    open(&mut browser, 9_007);
    assert_eq!(browser.value(&format!("{value}.textContent")), odd);
    all_was_well(&mut browser, &run);
    drop(browser);
    run.end_well();
}
