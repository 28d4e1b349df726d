//! Debian's Chromium without a screen, driven over its DevTools protocol through a pair of pipes.
//!
//! It resolves no name, sends through no proxy and does nothing of its own accord, so that every request it sends is the
//! page's. What it complains about is kept.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(180);

const FLAGS: [&str; 15] = [
    "--headless=new",
    "--remote-debugging-pipe",
    // The user of a container is root, whom its sandbox does not take.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
    "about:blank",
];

/// A browser with one tab.
pub(crate) struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    events: VecDeque<Value>,
    _folder: TempDir,
}

impl Browser {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It reads commands from its file 3 and answers to its file 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "chromium"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .args(FLAGS)
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).split(0);
        let (sender, from) = channel();
        thread::spawn(move || {
            while let Some(Ok(message)) = answers.next() {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let to = child.stdin.take();
        let mut browser = Self { child, to, from, calls: 0, session: None, events: VecDeque::new(), _folder: folder };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(ToOwned::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Goes to an address.
    pub(crate) fn open(&mut self, url: &str) {
        let went = self.call("Page.navigate", &json!({ "url": url }));
        assert!(went["errorText"].is_null(), "{url}: {went}");
        self.until("document.readyState === 'complete'");
    }

    /// How wide and high the window is, and whether the system is dark.
    pub(crate) fn look(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        self.call("Emulation.setScrollbarsHidden", &json!({ "hidden": true }));
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true, and answers it. One that fails, as what it looks at is not there, is not. It is
    /// tried once a frame.
    pub(crate) fn until(&mut self, expression: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        let tried = format!(
            "new Promise(done => requestAnimationFrame(() => {{ try {{ done({expression}); }} catch {{ done(null); }} }}))"
        );
        loop {
            let value = self.value(&tried);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != 0 && value != "" {
                return value;
            }
            if Instant::now() >= end {
                let text = self.value("document.body.innerText");
                panic!("{expression} did not come; the page shows:\n{}", text.as_str().unwrap_or_default());
            }
        }
    }

    /// Waits for an element with this text that stands still, and clicks it as a hand would.
    pub(crate) fn click(&mut self, selector: &str, text: &str) {
        let place = format!(
            "(() => {{ const one = [...document.querySelectorAll({})].find(one => \
                 one.textContent.includes({}) && !one.disabled); \
             one.scrollIntoView({{ block: 'center' }}); const box = one.getClientRects()[0]; \
             const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]; \
             return one.contains(document.elementFromPoint(x, y)) && {{ x, y }}; }})()",
            json!(selector),
            json!(text)
        );
        let mut at = self.until(&place);
        loop {
            let now = self.until(&place);
            if now == at {
                break;
            }
            at = now;
        }
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at["x"], "y": at["y"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Moves the pointer over an element, to its right.
    pub(crate) fn point_at(&mut self, selector: &str) {
        let place = self.until(&format!(
            "(() => {{ const one = document.querySelector({}); one.scrollIntoView({{ block: 'center' }}); \
             const box = one.getBoundingClientRect(); \
             return {{ x: box.x + box.width - 14, y: box.y + box.height / 2 }}; }})()",
            json!(selector)
        ));
        self.call("Input.dispatchMouseEvent", &json!({ "type": "mouseMoved", "x": place["x"], "y": place["y"] }));
    }

    /// Types into what has the focus.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses a key that has a name, as `Enter` and `Escape`.
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            other => panic!("which key is {other}?"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Chooses a file in a file chooser.
    pub(crate) fn choose_file(&mut self, selector: &str, file: &Path) {
        self.until(&format!("document.querySelector({}) !== null", json!(selector)));
        let asked = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
        let found = self.call("Runtime.evaluate", &asked);
        let chosen = json!({ "files": [file], "objectId": found["result"]["objectId"] });
        self.call("DOM.setFileInputFiles", &chosen);
    }

    /// The whole page as a PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": true }));
        BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Every address that was asked, since this was last called.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.drain("Network.requestWillBeSent", |event| event["request"]["url"].as_str().map(ToOwned::to_owned))
    }

    /// Everything that the browser complained about: errors of scripts, of loading and of the page's policy.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let mut all = self.drain("Runtime.exceptionThrown", |event| Some(event["exceptionDetails"].to_string()));
        all.extend(self.drain("Runtime.consoleAPICalled", |event| {
            (event["type"] == "error" || event["type"] == "warning").then(|| event["args"].to_string())
        }));
        all.extend(self.drain("Log.entryAdded", |event| {
            let entry = &event["entry"];
            (entry["level"] == "error" || entry["level"] == "warning")
                .then(|| format!("{} {}", entry["text"].as_str().unwrap(), entry["url"].as_str().unwrap_or_default()))
        }));
        all.extend(self.drain("Audits.issueAdded", |event| {
            (event["issue"]["code"] == "ContentSecurityPolicyIssue").then(|| event["issue"].to_string())
        }));
        all
    }

    fn drain(&mut self, method: &str, told: impl Fn(&Value) -> Option<String>) -> Vec<String> {
        // What has happened is told before the answer to this.
        self.value("1");
        let (these, others) = self.events.drain(..).partition::<VecDeque<_>, _>(|event| event["method"] == method);
        self.events = others;
        these.iter().filter_map(|event| told(&event["params"])).collect()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        let sent = self.to.as_mut().unwrap().write_all(&text);
        loop {
            let message = self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| self.gone(method, error, &sent));
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method} {parameters}: {message}");
                return message["result"].clone();
            }
            if message["method"].is_string() {
                self.events.push_back(message);
            }
        }
    }

    fn gone(&mut self, method: &str, error: RecvTimeoutError, sent: &std::io::Result<()>) -> ! {
        let ended = self.child.try_wait();
        panic!(
            "the browser does not answer {method} ({error}, {sent:?}, {ended:?}); it is Debian's `chromium`: install it \
             with `apt-get install --no-install-recommends chromium`, as `cargo xtask test` does where it may"
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without its pipe it ends by itself, and its folder can go.
        drop(self.to.take());
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
