//! The page of the default run, checked by axe-core, which `.ci/run` installs.

use std::path::PathBuf;

use serde_json::json;

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

#[test]
fn axe_finds_nothing_wrong() {
    let axe = match axe() {
        Ok(axe) => axe,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let Some(browser) = opened() else { return };
    // Only the rules about colours depend on the scheme.
    let colours = json!({ "runOnly": ["color-contrast", "link-in-text-block"] });
    let schemes = [("light", json!({})), ("dark", colours)];
    let mut wrong = Vec::new();
    for width in [390, 1440] {
        browser.resize(width);
        for hash in ["", "#L1.N507", "#b.L2.N305", "#L2.N0"] {
            let page = desk::folder().join("report.html").display().to_string();
            browser.open(&address(format!("{page}{hash}").as_ref()));
            browser.text("#neurons[data-ready]");
            browser.ask(&axe);
            for (scheme, rules) in &schemes {
                browser.prefer(scheme);
                browser.tell(FIND, std::slice::from_ref(rules));
                let found = browser.wait_for("return window.found", &[]);
                if found != json!([]) {
                    wrong.push(format!("{scheme}, {width} pixels, {hash}: {found}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
