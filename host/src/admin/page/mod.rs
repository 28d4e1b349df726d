//! The page at `/`: its files, which the program carries with it, and what a browser may do with them.
//!
//! They hold no data: whatever the page shows it asks of the API, as anybody else does, and shows as text.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::answer::Refused;

/// The browser is to run and load what comes from here alone, to make no markup of text, and to show the page in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const PAGE: File = File { name: "page.html", kind: HTML, text: include_str!("page.html") };

/// What the page is made of.
const FILES: [File; 18] = [
    File { name: "page.css", kind: CSS, text: include_str!("page.css") },
    File { name: "icon.svg", kind: PICTURE, text: include_str!("icon.svg") },
    script("page.js", include_str!("page.js")),
    script("api.js", include_str!("api.js")),
    script("chart.js", include_str!("chart.js")),
    script("dead_letters.js", include_str!("dead_letters.js")),
    script("dialog.js", include_str!("dialog.js")),
    script("difference.js", include_str!("difference.js")),
    script("dom.js", include_str!("dom.js")),
    script("format.js", include_str!("format.js")),
    script("layout.js", include_str!("layout.js")),
    script("modules.js", include_str!("modules.js")),
    script("offer.js", include_str!("offer.js")),
    script("paged.js", include_str!("paged.js")),
    script("pipelines.js", include_str!("pipelines.js")),
    script("series.js", include_str!("series.js")),
    script("token.js", include_str!("token.js")),
    script("upload.js", include_str!("upload.js")),
];

struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn script(name: &'static str, text: &'static str) -> File {
    File { name, kind: SCRIPT, text }
}

impl File {
    fn answer(&self) -> Response {
        let kind = HeaderValue::from_static(self.kind);
        ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], self.text).into_response()
    }
}

/// Whether this is the path of the page or of a part of it.
pub(super) fn has(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// The page.
pub(super) async fn page() -> Response {
    PAGE.answer()
}

/// A part of it.
pub(super) async fn part(Path(name): Path<String>) -> Result<Response, Refused> {
    let found = FILES.iter().find(|file| file.name == name).map(File::answer);
    found
        .ok_or_else(|| Refused::not_found("the page has no such part", "load `/` anew: the program may be another one"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use regex::Regex;

    use super::*;

    fn files() -> impl Iterator<Item = &'static File> {
        FILES.iter().chain([&PAGE])
    }

    #[test]
    fn every_part_that_a_file_names_is_there_and_every_part_is_named() {
        let named = Regex::new(r#"from "\./([^"]+)"|(?:href|src)="page/([^"]+)""#).unwrap();
        let mut wanted: Vec<&str> = files()
            .flat_map(|file| named.captures_iter(file.text))
            .map(|found| found.get(1).or_else(|| found.get(2)).unwrap().as_str())
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut there: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        there.sort_unstable();
        assert_eq!(wanted, there);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_no_text_becomes_markup_or_code() {
        let forbidden = Regex::new(
            r#"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|Function\(|<script>|<style|style="|\son\w+="|@import|url\("#,
        )
        .unwrap();
        let elsewhere = Regex::new(r#"["'(/]//[a-z]|https?://"#).unwrap();
        for file in files() {
            assert!(!forbidden.is_match(file.text), "{}: {:?}", file.name, forbidden.find(file.text));
            // The name of the language of drawings is no address.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.is_match(&text), "{}: {:?}", file.name, elsewhere.find(&text));
        }
    }
}
