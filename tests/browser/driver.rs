//! A little of WebDriver: what the tests of the report need.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What WebDriver calls the address of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys, as WebDriver calls them.
pub const ENTER: &str = "\u{E007}";
/// See [`ENTER`].
pub const HOME: &str = "\u{E011}";
/// See [`ENTER`].
pub const TAB: &str = "\u{E004}";

/// How long a page may take to show what a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser; it is closed when it is let go of.
pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    /// Where the browser keeps what it keeps.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts Chromium, or returns the reason why it cannot be started.
    pub fn start() -> Result<Self, String> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("no `chromedriver` beside Chromium ({e})"))?;
        let port = port_of(&mut driver).ok_or("chromedriver names no port")?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let profile = tempfile::tempdir().expect("folder");
        let data = format!("--user-data-dir={}", profile.path().display());
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
                "--disable-background-networking", "--disable-component-update",
                // In a container /dev/shm may be too small for a page.
                "--disable-dev-shm-usage", "--disable-sync", "--hide-scrollbars", data,
                // The first page: that of the browser asks for much.
                "data:,",
            ] },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, session: base.clone(), agent, _profile: profile };
        let opened = browser.post("", &wanted);
        let id = opened["sessionId"].as_str().ok_or_else(|| format!("no session: {opened}"))?;
        browser.session = format!("{base}/{id}");
        Ok(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let request = self.agent.post(&url).header("Content-Type", "application/json");
        let mut answer = request.send(body.to_string()).unwrap_or_else(|e| panic!("{path}: {e}"));
        let text =
            answer.body_mut().with_config().limit(1 << 28).read_to_string().expect("an answer");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].take()
    }

    fn chrome(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens an address, as if nothing had been open before.
    pub fn open(&self, url: &str) {
        // Another hash of the same page would load nothing.
        self.post("/url", &json!({ "url": "about:blank" }));
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a script and returns what it returns.
    pub fn tell(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The same without arguments.
    pub fn ask(&self, script: &str) -> Value {
        self.tell(script, &[])
    }

    /// Runs a script until it returns something other than null. On a busy machine a page
    /// may be drawn some time after the event that asks for it.
    pub fn wait_for(&self, script: &str, arguments: &[Value]) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.tell(script, arguments);
            if !answer.is_null() {
                return answer;
            }
            if Instant::now() > end {
                let page = self.ask("return document.body.innerText.slice(0, 2000)");
                panic!("{script} with {arguments:?} is null after {PATIENCE:?} on {page}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn find(&self, selector: &str) -> Value {
        self.post("/element", &json!({ "using": "css selector", "value": selector }))
    }

    fn element(&self, selector: &str, what: &str, body: &Value) {
        let found = self.find(selector);
        let id = found[ELEMENT].as_str().expect("an element");
        self.post(&format!("/element/{id}/{what}"), body);
    }

    /// What an element says, once it is there and says something.
    pub fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.textContent || null";
        self.wait_for(script, &[json!(selector)]).as_str().unwrap_or_default().to_owned()
    }

    /// Clicks an element, which must be there to be clicked.
    pub fn click(&self, selector: &str) {
        self.element(selector, "click", &json!({}));
    }

    /// Focuses an element and presses keys.
    pub fn press(&self, selector: &str, keys: &str) {
        self.element(selector, "value", &json!({ "text": keys }));
    }

    /// Replaces the content of a field, and waits until all of it has arrived.
    pub fn write(&self, selector: &str, text: &str) {
        self.element(selector, "clear", &json!({}));
        self.press(selector, text);
        let script = "return document.querySelector(arguments[0]).value === arguments[1] || null";
        self.wait_for(script, &[json!(selector), json!(text)]);
    }

    /// Makes the window so wide.
    pub fn resize(&self, width: u32) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.chrome("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Makes the user prefer light or dark.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.chrome("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// Keeps a picture of the window for people to look at.
    pub fn screenshot(&self, name: &str) {
        let taken =
            self.chrome("Page.captureScreenshot", &json!({ "captureBeyondViewport": false }));
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).expect("folder");
        let picture = STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("write");
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({ "type": kind }));
        entries.as_array().cloned().unwrap_or_default()
    }

    /// What the console says is wrong.
    pub fn complaints(&self) -> Vec<String> {
        let bad = |entry: &Value| {
            let level = entry["level"].as_str().unwrap_or_default();
            ["SEVERE", "WARNING"].contains(&level).then(|| entry["message"].to_string())
        };
        self.log("browser").iter().filter_map(bad).collect()
    }

    /// Addresses that pages from disk have asked for.
    pub fn requests(&self) -> Vec<String> {
        let url = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let page = message["params"]["documentURL"].as_str().unwrap_or_default();
            let asked = message["method"] == "Network.requestWillBeSent";
            (asked && page.starts_with("file:"))
                .then(|| message["params"]["request"]["url"].as_str().map(String::from))?
        };
        self.log("performance").iter().filter_map(url).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser with it.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// "ChromeDriver was started successfully on port 41321."
fn port_of(driver: &mut Child) -> Option<u16> {
    let lines = BufReader::new(driver.stdout.take()?).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    })
}
