//! Where the host has a token, the page asks for it and keeps it as long as the tab is open.

use super::{pictures, shown};
use crate::admin::asked::Held;
use crate::stop::ORDERS;

const TOKEN: &str = "correct-horse-battery";

#[test]
fn the_page_asks_for_the_token_and_tells_a_wrong_one() {
    let mut run = Held::start(&format!("{ORDERS}[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n"), &[]);
    run.open();
    // The page itself holds no data; what it shows needs the token.
    let page = run.get("/");
    assert_eq!((page.status, run.get("/page/page.js").status, run.get("/page/nothing").status), (200, 200, 404));
    let head = page.head.to_lowercase();
    for part in ["content-security-policy: default-src 'none'; script-src 'self';", "frame-ancestors 'none'", "nosniff"]
    {
        assert!(head.contains(part), "{head}");
    }
    assert_eq!(run.get("/v1/pipelines/orders/samples").status, 401);
    let mut browser = shown(&run);
    browser.until("document.activeElement.name === 'token'");
    pictures(&mut browser, "token");
    browser.write("correct-horse-batterz");
    browser.press("Enter");
    browser.until("document.querySelector('[role=alert].refusal').innerText === 'This is not the token.'");
    // What was wrong is selected, and written over.
    browser.write(TOKEN);
    browser.press("Enter");
    browser.until("document.querySelector('article[data-pipeline=orders] .state').innerText.endsWith('running')");
    // It is asked for once a tab, and stands nowhere else.
    browser.open(&format!("http://{}/", run.address));
    browser.until("document.querySelector('article[data-pipeline=orders]') !== null");
    assert_eq!(browser.value("localStorage.length + document.cookie.length"), 0);
    let requests = browser.requests();
    assert!(requests.iter().all(|url| !url.contains("horse")), "{requests:#?}");
    // The refusals are the browser's only complaints.
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|complaint| complaint.contains("401")), "{complaints:#?}");
    drop(browser);
    run.end_well();
}
