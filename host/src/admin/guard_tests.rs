//! Which requests are let through.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::FilePath;

const TOKEN: &str = "0123456789abcdef";

fn access(listen: &str, token: Option<&str>) -> Access {
    Access::new(&AdminAddress::Tcp(listen.parse().unwrap()), token)
}

fn asked(access: &Access, method: &Method, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let peer = Peer::Tcp("127.0.0.1:4000".parse().unwrap());
    match access.admit(peer, method, &path.parse().unwrap(), &map) {
        Ok(_) => 200,
        Err(refused) => {
            assert!(!refused.remedy.is_empty());
            refused.status.as_u16()
        }
    }
}

fn get(access: &Access, headers: &[(&'static str, &str)]) -> u16 {
    asked(access, &Method::GET, "/v1/pipelines", headers)
}

#[test]
fn a_host_of_another_name_is_refused_on_loopback() {
    let local = access("127.0.0.1:9400", None);
    for host in ["127.0.0.1:9400", "localhost", "LocalHost:80", "127.0.0.1"] {
        assert_eq!(get(&local, &[("host", host)]), 200, "{host}");
    }
    // What a page resolves to this address is the attacker's name.
    for host in ["evil.example", "127.0.0.1.evil.example:9400", "localhost.evil.example", "[::1]", "10.0.0.1", ""] {
        assert_eq!(get(&local, &[("host", host)]), 421, "{host}");
    }
    assert_eq!(get(&local, &[]), 421);
    assert_eq!(get(&local, &[("host", "localhost"), ("host", "evil.example")]), 421);
    assert_eq!(get(&access("[::1]:9400", None), &[("host", "[::1]:9400")]), 200);
}

#[test]
fn host_of_another_name_is_refused_on_a_socket() {
    // A forwarded port, such as `ssh -L 9400:…sock`, is on a loopback address, and any page can have its name lead there.
    let socket = Access::new(&AdminAddress::Unix(FilePath::plain("/run/tidegate.sock")), None);
    for host in ["localhost", "localhost:9400", "LOCALHOST", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:80"] {
        assert_eq!(get(&socket, &[("host", host)]), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9400",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:evil",
        "[::1]evil.example",
        "[::1",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ] {
        assert_eq!(get(&socket, &[("host", host)]), 421, "{host}");
    }
    assert_eq!(get(&socket, &[]), 421);
    let own = |origin| [("host", "localhost:9400"), ("origin", origin)];
    assert_eq!(get(&socket, &own("http://localhost:9400")), 200);
    assert_eq!(get(&socket, &own("http://evil.example:9400")), 403);
    assert_eq!(get(&socket, &[("host", "evil.example"), ("origin", "http://evil.example")]), 421);
}

#[test]
fn a_request_of_another_site_is_refused() {
    let local = access("127.0.0.1:9400", None);
    let with = |name, value| get(&local, &[("host", "localhost:9400"), (name, value)]);
    assert_eq!(with("origin", "http://localhost:9400"), 200);
    for origin in
        ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:9400", "https://localhost:9400"]
    {
        assert_eq!(with("origin", origin), 403, "{origin}");
    }
    assert_eq!(with("sec-fetch-site", "same-origin"), 200);
    assert_eq!(with("sec-fetch-site", "none"), 200);
    assert_eq!(with("sec-fetch-site", "cross-site"), 403);
    assert_eq!(with("sec-fetch-site", "same-site"), 403);
}

#[test]
fn a_link_of_another_site_leads_to_the_page_and_to_nothing_else() {
    let local = access("127.0.0.1:9400", None);
    let followed = [("host", "localhost:9400"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let followed = |dest| [followed.as_slice(), &[("sec-fetch-dest", dest)]].concat();
    assert_eq!(asked(&local, &Method::GET, "/", &followed("document")), 200);
    assert_eq!(asked(&local, &Method::GET, "/", &followed("iframe")), 403);
    assert_eq!(asked(&local, &Method::GET, "/v1/pipelines", &followed("document")), 403);
    assert_eq!(asked(&local, &Method::POST, "/", &followed("document")), 403);
    let posted = [followed("document"), vec![("origin", "https://evil.example")]].concat();
    assert_eq!(asked(&local, &Method::GET, "/", &posted), 403);
    assert_eq!(asked(&local, &Method::GET, "/page/page.js", &followed("script")), 403);
}

#[test]
fn a_change_needs_a_type_that_no_form_sends() {
    let local = access("127.0.0.1:9400", None);
    let pause = |kind| {
        let headers = [("host", "localhost"), ("content-type", kind)];
        asked(&local, &Method::POST, "/v1/pipelines/orders/pause", &headers)
    };
    assert_eq!(pause("application/json; charset=utf-8"), 200);
    assert_eq!(pause("application/octet-stream"), 200);
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json", ""]
    {
        assert_eq!(pause(kind), 415, "{kind}");
    }
    let none = asked(&local, &Method::POST, "/v1/pipelines/orders/pause", &[("host", "localhost")]);
    assert_eq!(none, 415);
}

#[test]
fn with_a_token_all_but_the_probes_and_the_page_need_it() {
    for listen in ["0.0.0.0:9400", "127.0.0.1:9400"] {
        let open = access(listen, Some(TOKEN));
        let with = |value: &str| get(&open, &[("host", "127.0.0.1:9400"), ("authorization", value)]);
        assert_eq!(with(&format!("Bearer {TOKEN}")), 200);
        for wrong in ["Bearer 0123456789abcdeF", "Bearer ", "Bearer", "Basic 0123456789abcdef", TOKEN, ""] {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(with(&format!("Bearer {TOKEN}0")), 401);
        for (path, expected) in [
            ("/livez", 200),
            ("/readyz", 200),
            ("/metrics", 401),
            ("/livez/x", 401),
            ("/", 200),
            ("/page/page.js", 200),
            ("/pagex", 401),
        ] {
            assert_eq!(asked(&open, &Method::GET, path, &[("host", "127.0.0.1:9400")]), expected, "{path}");
        }
    }
}

#[test]
fn a_path_that_would_leave_its_place_is_refused() {
    let local = access("127.0.0.1:9400", None);
    for path in [
        "/v1/../metrics",
        "/v1/%2e%2E/metrics",
        "//evil.example/v1/pipelines",
        "/v1//pipelines",
        "/v1/pipelines/a%2fpause",
        "/v1/pipelines/a%5c..",
        "/v1/pipelines/%00",
        "/v1/%252e%252e/metrics",
        "http://evil.example/v1/pipelines",
    ] {
        assert_eq!(asked(&local, &Method::GET, path, &[("host", "localhost")]), 400, "{path}");
    }
}
