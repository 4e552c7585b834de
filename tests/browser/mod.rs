//! A report in a real browser: headless Chromium, driven by WebDriver.

mod axe;
mod driver;
mod large;

use std::path::Path;

use serde_json::{Value, json};
use universal_neurons::table::Column;

use crate::desk;
use driver::{Browser, ENTER, HOME, TAB};

/// Widths of two phones and of a desk, in CSS pixels.
const WIDTHS: [u32; 3] = [360, 390, 1440];

fn address(report: &Path) -> String {
    format!("file://{}", report.display())
}

/// A browser that shows the default run's report; none, and the reason printed, where there
/// is no browser.
fn opened() -> Option<Browser> {
    match Browser::start() {
        Ok(browser) => {
            browser.open(&address(&desk::folder().join("report.html")));
            Some(browser)
        }
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

/// Ratio of luminances of a text and what it stands on, as WCAG 2 defines it; the least over
/// a kind of element.
const CONTRAST: &str = r"
    const parse = (c) => c.match(/[\d.]+/g).map(Number);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = (c) => { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
    const light = (c) => { const [r, g, b] = [...rgb(c)].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ground = (e) => { while (e) { const c = getComputedStyle(e).backgroundColor; if (parse(c).length < 4 || parse(c)[3] > 0) return c; e = e.parentElement; } return 'white'; };
    return Math.min(...[...document.querySelectorAll(arguments[0])].filter((e) => e.offsetParent).map((e) => {
        const [a, b] = [getComputedStyle(e).color, ground(e)].map(light);
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }));";

/// What makes the page wider than the window.
const TOO_WIDE: &str = r"
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    return [String(document.documentElement.scrollWidth), ...[...document.querySelectorAll('body *')]
        .filter((e) => e.getBoundingClientRect().right > innerWidth && !e.parentElement.closest('.wide, pre'))
        .map((e) => `${e.tagName} ${e.id} ${e.className} ${e.textContent.slice(0, 40)}`)];";

#[test]
fn the_report_is_quiet_readable_and_fits_every_screen() {
    let Some(browser) = opened() else { return };
    let size = std::fs::metadata(desk::folder().join("report.html")).expect("a report").len();
    assert!(size < 3_000_000, "{size} bytes");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for width in WIDTHS {
            browser.resize(width);
            browser.open(&address(&desk::folder().join("report.html#L0.N960")));
            browser.text("#neurons[data-ready]");
            assert_eq!(browser.ask(TOO_WIDE), json!([]), "too wide at {width}");
            for kind in ["p", "td", "th", "a", ".note", ".verdict", "figcaption", "button"] {
                let ratio = browser.tell(CONTRAST, &[json!(kind)]);
                let ratio = ratio.as_f64().expect("a number");
                assert!(ratio >= 4.5, "contrast of {kind} is {ratio:.2} in {scheme}");
            }
            browser.screenshot(&format!("report-{scheme}-{width}"));
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new(), "console");
    let foreign = |url: &String| !url.starts_with("file://") && !url.starts_with("data:");
    let asked: Vec<String> = browser.requests();
    assert!(asked.iter().any(|url| url.ends_with("report.html")), "requests are seen: {asked:?}");
    assert!(!asked.iter().any(foreign), "{asked:?}");
}

#[test]
fn the_page_has_a_structure_that_can_be_heard() {
    let Some(browser) = opened() else { return };
    let ask = |script: &str| browser.ask(&format!("return {script}"));
    assert_eq!(ask("document.querySelectorAll('h1').length"), 1);
    assert_eq!(ask("document.documentElement.lang"), "en");
    let figures = ask("document.querySelectorAll('figure').length").as_u64();
    assert!(figures >= Some(9), "{figures:?} figures");
    assert_eq!(
        ask(
            "[...document.querySelectorAll('figure [role=img]')].filter((e) => !e.ariaLabel).length"
        ),
        0
    );
    assert_eq!(
        ask(
            "[...document.querySelectorAll('input,select')].filter((e) => !e.labels.length).length"
        ),
        0
    );
    let missing = ask(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.getAttribute('href').slice(1))\
         .filter((id) => !document.getElementById(id) && !/^L\\d+\\.N\\d+$/.test(id))",
    );
    assert_eq!(missing, json!([]), "links that lead nowhere");
    browser.press("body", TAB);
    assert_eq!(ask("document.activeElement.className"), "skip", "the first stop is the skip link");
}

#[test]
fn claims_are_filtered() {
    let Some(browser) = opened() else { return };
    let shown = || {
        browser.ask(
            "return [...document.querySelectorAll('#ledger-table tbody tr')]\
             .filter((r) => !r.hidden).map((r) => [r.id, r.dataset.verdict])",
        )
    };
    let rows = |value: &Value| value.as_array().expect("rows").len();
    let all = rows(&shown());
    assert!(all > 40, "{all} claims");
    browser.press("#ledger-verdict", "fails");
    let fails = shown();
    let verdicts: Vec<&Value> = fails.as_array().expect("rows").iter().map(|r| &r[1]).collect();
    assert!(!verdicts.is_empty() && verdicts.iter().all(|v| *v == "fails"), "{verdicts:?}");
    browser.press("#ledger-verdict", HOME);
    browser.write("#ledger-search", "skewness");
    assert!((1..all).contains(&rows(&shown())));
    browser.write("#ledger-search", "no such words");
    assert_eq!(rows(&shown()), 0);
    assert_eq!(browser.text("#ledger-count"), format!("0 of {all} claims"));
}

#[test]
fn a_neuron_is_found_and_its_card_opened() {
    let Some(browser) = opened() else { return };
    assert!(browser.text("#neuron-count").starts_with("3072 of 3072"));
    browser.write("#neuron-search", "L1.N507");
    assert_eq!(browser.text("#neuron-table tbody th a"), "L1.N507");
    assert!(browser.text("#neuron-count").starts_with("1 of 3072"));
    browser.click("#neuron-table tbody th a");
    assert!(browser.text("#card h3").starts_with("L1.N507"));
    let count = |selector: &str| {
        browser.tell("return document.querySelectorAll(arguments[0]).length", &[json!(selector)])
    };
    assert_eq!(count("#card > .place"), 8);
    assert_eq!(count("#card svg rect").as_u64().map(|n| n >= 40), Some(true));
    assert_eq!(count("#card > p > .token"), 20);
    // A row that the page computes percentiles of, against the program's own.
    let row = browser.ask(
        "return [...document.querySelectorAll('#card tr')].find((r) => r.cells[0].textContent === 'skew').cells[2].textContent",
    );
    let own = desk::percentile("L1.N507", universal_neurons::table::Column::Skew);
    assert_eq!(row, format!("{own:.0}"));
    // A neuron without a card says so, and a neuron that does not exist has no entry.
    browser.open(&address(&desk::folder().join("report.html#L2.N0")));
    assert!(browser.text("#card").contains("inspect L2.N0"));
    browser.open(&address(&desk::folder().join("report.html#L9.N9")));
    browser.text("#neurons[data-ready]");
    assert_eq!(browser.ask("return document.getElementById('card').hidden"), true);
}

#[test]
fn the_table_is_sorted_by_keyboard_and_widened() {
    let Some(browser) = opened() else { return };
    let first = || browser.text("#neuron-table tbody th a");
    let before = first();
    browser.press("#neuron-table th:nth-child(5) button", ENTER);
    let sorted =
        browser.ask("return document.querySelector('#neuron-table [aria-sort]').textContent");
    assert_eq!(sorted, "skew ↓");
    assert_ne!(first(), before);
    assert_eq!(browser.ask("return document.activeElement.textContent"), "skew ↓", "focus stays");
    browser.click("#more");
    assert_eq!(
        browser.ask("return document.querySelectorAll('#neuron-table tbody tr').length"),
        100
    );
    browser.click("#theme");
    assert_eq!(browser.ask("return document.documentElement.dataset.theme"), "light");
}

#[test]
fn a_neuron_is_compared_with_its_partners() {
    let Some(browser) = opened() else { return };
    browser.open(&address(&desk::folder().join("report.html#L1.N507")));
    assert!(browser.text("#same h5").starts_with("L1.N507"));
    let tokens = browser.ask(
        "return [...document.querySelectorAll('#card .joint')].map((svg) => \
         [...svg.querySelectorAll('[data-n]')].reduce((sum, r) => sum + Number(r.dataset.n), 0))",
    );
    let tokens: Vec<u64> =
        tokens.as_array().expect("plots").iter().filter_map(Value::as_u64).collect();
    assert!(tokens.len() == 4 && tokens.iter().all(|n| *n == tokens[0] && *n > 9000), "{tokens:?}");
    assert_eq!(browser.ask("return document.querySelectorAll('#card .joint line').length"), 4);
    assert!(browser.text("#card .mutual").contains("mutual"));
    assert_eq!(browser.ask("return document.querySelectorAll('#same .place').length"), 4);
    // Another partner, and then its own card and the way back.
    browser.press("#partner", "L1.N998");
    assert!(browser.text("#same .columns > div:nth-child(2) h5").starts_with("L1.N998"));
    browser.click("#card td a");
    assert!(browser.text("#card h3").starts_with("L2.N305 of model b"));
    assert_eq!(browser.text("#card li a"), "L1.N507");
    browser.click("#card li a");
    assert!(browser.text("#card h3").starts_with("L1.N507"));
}

#[test]
fn neurons_are_filtered() {
    let Some(browser) = opened() else { return };
    browser.write("#neuron-search", "layer 2");
    assert!(browser.text("#neuron-count").starts_with("1024 of 3072"));
    browser.write("#neuron-search", "");
    browser.press("#neuron-layer", "1");
    assert!(browser.text("#neuron-count").starts_with("1024 of 3072"));
    browser.write("#excess-from", "0.5");
    let universal = desk::outcome().reference.summary.by_layer[1].universal as u32;
    assert!(universal > 0);
    let count = format!("{universal} of 3072");
    assert!(browser.text("#neuron-count").starts_with(&count), "{count}");
    browser.press("#neuron-family", "unigram");
    let shown = browser.text("#neuron-count");
    let found: u32 = shown.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!((1..universal).contains(&found), "{shown}");
    // The text and the table give a number rounded once.
    browser.open(&address(&desk::folder().join("report.html#L0.N960")));
    browser.text("#card h3");
    let row = browser.ask(
        "return [...document.querySelectorAll('#card tr')].find((r) => r.cells[0].textContent === 'excess_corr').cells[1].textContent",
    );
    let said = browser.ask("return document.querySelector('.best dt').textContent");
    let [row, said] = [&row, &said].map(|v| v.as_str().expect("text").to_owned());
    assert!(said.starts_with("L0.N960") && said.contains(&format!("excess {row}")), "{said}");
    let reference = &desk::outcome().reference;
    let excess = reference.table.column(Column::ExcessCorr)[960];
    assert_eq!(row, format!("{excess:.3}"));
}

#[test]
fn figures_and_claims_fit_a_phone() {
    let Some(browser) = opened() else { return };
    browser.resize(390);
    browser.open(&address(&desk::folder().join("report.html")));
    let outside = browser.ask(
        "return [...document.querySelectorAll('#figures svg, #ledger-table tbody td')]\
         .filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.textContent.slice(0, 40))",
    );
    assert_eq!(outside, json!([]));
}

#[test]
fn a_print_has_a_card() {
    let Some(browser) = opened() else { return };
    browser.text("#neurons[data-ready]");
    let open = || {
        browser.ask("return document.querySelector('#card:not([hidden]) h3')?.textContent ?? ''")
    };
    assert_eq!(open(), "");
    browser.ask("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(open(), "L1.N507, universal");
    assert_eq!(
        browser.ask("return getComputedStyle(document.querySelector('#card h4')).breakAfter"),
        "avoid"
    );
    browser.ask("dispatchEvent(new Event('afterprint'))");
    assert_eq!(open(), "");
}
