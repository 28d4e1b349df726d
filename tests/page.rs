//! The page of a running program, in a real browser: what an operator sees there and does with it.

mod browser;
mod dead_letters;
mod modules;
mod pipelines;
mod token;

use std::fs;

use tidegate_tests::program;

use self::browser::Browser;
use super::admin::asked::Held;

/// A browser that shows the page of a run.
fn shown(run: &Held) -> Browser {
    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://{}/", run.address));
    browser
}

/// Leaves pictures of what the browser shows with cargo's results, light and dark, wide and narrow.
fn pictures(browser: &mut Browser, name: &str) {
    let folder = program().parent().unwrap().parent().unwrap().join("page");
    fs::create_dir_all(&folder).unwrap();
    for (look, width, height, dark) in [
        ("light", 1280, 900, false),
        ("dark", 1280, 900, true),
        ("narrow", 390, 844, false),
        ("narrow-dark", 390, 844, true),
    ] {
        browser.look(width, height, dark);
        fs::write(folder.join(format!("{name}-{look}.png")), browser.picture()).unwrap();
    }
    browser.look(1280, 900, false);
}

/// The page has asked this host alone, and the browser has nothing to complain about.
fn all_was_well(browser: &mut Browser, run: &Held) {
    let own = format!("http://{}/", run.address);
    let requests = browser.requests();
    assert!(requests.len() > 10, "{requests:#?}");
    assert!(requests.iter().all(|url| url.starts_with(&own) || url == "about:blank"), "{requests:#?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
