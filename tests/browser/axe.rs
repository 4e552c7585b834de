//! The page of the default run, checked by axe-core, which `.ci/run` installs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::driver::Browser;
use super::{address, opened};
use crate::desk;
use crate::support::path;

/// axe-core, or the reason why there is none.
fn axe() -> Result<String, String> {
    let file: PathBuf = path("target/axe/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&file).map_err(|e| format!("axe-core: {}: {e}", file.display()))
}

/// Has axe-core check the page with some rules, or with all. Finds the violations, with the elements
/// that they are about.
const FIND: &str = r"
    window.found = null;
    axe.run(document, { resultTypes: ['violations'], ...arguments[0] }).then(({ violations }) => {
        window.found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.target).join(', ')}`);
    }, (error) => { window.found = [String(error)]; });";

/// The colour schemes, and the rules to check in each. Only those about colours depend on it.
const SCHEMES: [(&str, &str); 2] =
    [("light", "{}"), ("dark", r#"{ "runOnly": ["color-contrast", "link-in-text-block"] }"#)];

/// Returns what axe-core finds wrong.
fn violations(browser: &Browser, rules: &str) -> Value {
    browser.tell(FIND, &[serde_json::from_str(rules).expect("JSON")]);
    browser.wait_for("return window.found", &[])
}

#[test]
fn axe_finds_nothing_wrong() {
    let axe = match axe() {
        Ok(axe) => axe,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let Some(browser) = opened() else { return };
    let mut wrong = Vec::new();
    for width in [390, 1440] {
        browser.resize(width);
        for hash in ["", "#L1.N507", "#b.L2.N305", "#L2.N0"] {
            let page = desk::folder().join("report.html").display().to_string();
            browser.open(&address(format!("{page}{hash}").as_ref()));
            browser.text("#neurons[data-ready]");
            browser.ask(&axe);
            for (scheme, rules) in SCHEMES {
                browser.prefer(scheme);
                let found = violations(&browser, rules);
                if found != json!([]) {
                    wrong.push(format!("{scheme}, {width} pixels, {hash}: {found}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
