//! The ledger as text, Markdown, JSON and JUnit.

use std::fmt::Write;

use crate::claims::ledger::{Entry, Ledger, Verdict};

/// Plain text: one line per claim and tier, what it measured below it.
pub fn text(ledger: &Ledger) -> String {
    let mut out = String::new();
    for e in &ledger.entries {
        let used = e
            .tolerance_used
            .map_or(String::new(), |t| format!(", {:.0} % of tolerance", 100.0 * t));
        // Writing to a String cannot fail.
        let _ = match &e.verdict {
            Verdict::NotRun(reason) => writeln!(out, "not run       {}: {reason}", name(e)),
            verdict => writeln!(
                out,
                "{:<13} {}: expected {}, measured {}{used}{}",
                verdict.to_string(),
                name(e),
                e.expected,
                e.measured_text(),
                e.finding.as_ref().map_or(String::new(), |f| format!("; finding: {f}")),
            ),
        };
    }
    ledger.incomplete.iter().for_each(|line| out += &format!("{line}\n"));
    out + &summary(ledger) + "\n"
}

/// `id [tier model…]`
pub fn name(e: &Entry) -> String {
    format!("{} [{} {}]", e.id, e.tier, e.models.join(" "))
}

/// One line of counts.
pub fn summary(ledger: &Ledger) -> String {
    let [holds, contradicted, fails, not_run] = ledger.counts();
    format!("{holds} hold, {contradicted} contradicted, {fails} fail, {not_run} not run")
}

/// A Markdown table of the claims that ran, and a line about the others.
pub fn markdown(ledger: &Ledger) -> String {
    let mut out = String::from(
        "| claim | evidence | expected | measured | verdict |\n|---|---|---|---|---|\n",
    );
    for e in ledger.entries.iter().filter(|e| !matches!(e.verdict, Verdict::NotRun(_))) {
        let (models, measured) = (e.models.join(", "), e.measured_text());
        let finding = e.finding.as_ref().map_or(String::new(), |f| format!(": {f}"));
        let _ = writeln!(
            out,
            "| `{}` {} | {} {models} | {} | {measured} | {}{finding} |",
            e.id, e.claim, e.tier, e.expected, e.verdict
        );
    }
    let _ = writeln!(out, "\n{}.", summary(ledger));
    out
}

/// JUnit XML, as CI systems read it.
pub fn junit(ledger: &Ledger) -> String {
    let [_, _, fails, not_run] = ledger.counts();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"claims\" tests=\"{}\" failures=\"{fails}\" skipped=\"{not_run}\">",
        ledger.entries.len()
    );
    for e in &ledger.entries {
        let _ = write!(out, "  <testcase classname=\"{}\" name=\"{}\"", e.tier, escaped(&name(e)));
        let _ = match &e.verdict {
            Verdict::NotRun(reason) => {
                writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(reason))
            }
            Verdict::Fails => writeln!(
                out,
                "><failure message=\"{}\"/></testcase>",
                escaped(&format!("expected {}, measured {}", e.expected, e.measured_text()))
            ),
            Verdict::Holds | Verdict::Contradicted => writeln!(out, "/>"),
        };
    }
    out + "</testsuite>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
