//! The ledger as text, Markdown, JSON and JUnit.

use std::fmt::Write;

use crate::claims::ledger::{Entry, Ledger, Verdict};
use crate::printable::line;

/// Returns the ledger as text: a line for each claim and kind of evidence, followed by what was
/// measured.
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

/// Returns a name of the form `id [tier model…]`.
pub fn name(e: &Entry) -> String {
    format!("{} [{} {}]", e.id, e.tier, e.models.join(" "))
}

/// Returns the numbers of verdicts, in one line.
pub fn summary(ledger: &Ledger) -> String {
    let [holds, contradicted, fails, not_run] = ledger.counts();
    let recorded = |e: &&Entry| e.verdict == Verdict::Fails && e.finding.is_some();
    let known = match ledger.entries.iter().filter(recorded).count() {
        0 => String::new(),
        n => format!(" ({n} as recorded)"),
    };
    format!("{holds} hold, {contradicted} contradicted, {fails} fail{known}, {not_run} not run")
}

/// Returns a Markdown table of the claims that were judged, and a line about the others.
pub fn markdown(ledger: &Ledger) -> String {
    let mut out = String::from(
        "| claim | evidence | expected | measured | verdict |\n|---|---|---|---|---|\n",
    );
    for e in ledger.entries.iter().filter(|e| !matches!(e.verdict, Verdict::NotRun(_))) {
        let finding = e.finding.as_ref().map_or(String::new(), |f| format!(": {f}"));
        let cells = [
            format!("`{}` {}", e.id, e.claim),
            format!("{} {}", e.tier, e.models.join(", ")),
            e.expected.clone(),
            e.measured_text(),
            format!("{}{finding}", e.verdict),
        ];
        let _ = writeln!(out, "| {} |", cells.map(|c| markdown_cell(&c)).join(" | "));
    }
    let _ = writeln!(out, "\n{}.", summary(ledger));
    out
}

/// Escapes text for a cell of a Markdown table: a bar or a line feed would end the cell, and a tag
/// would be interpreted.
fn markdown_cell(text: &str) -> String {
    line(text).replace('|', "\\|").replace('<', "&lt;")
}

/// Returns the ledger as JUnit XML for CI systems. A failure is one that [`Entry::is_failure`] counts; every test
/// case has the statement, its source and the recorded finding as its output.
pub fn junit(ledger: &Ledger, strict: bool) -> String {
    let [_, _, _, not_run] = ledger.counts();
    let fails = ledger.entries.iter().filter(|e| e.is_failure(strict)).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"claims\" tests=\"{}\" failures=\"{fails}\" skipped=\"{not_run}\">",
        ledger.entries.len()
    );
    for e in &ledger.entries {
        let _ =
            writeln!(out, "  <testcase classname=\"{}\" name=\"{}\">", e.tier, escaped(&name(e)));
        let measured =
            format!("{}: expected {}, measured {}", e.verdict, e.expected, e.measured_text());
        let _ = match &e.verdict {
            Verdict::NotRun(reason) => {
                writeln!(out, "    <skipped message=\"{}\"/>", escaped(reason))
            }
            _ if e.is_failure(strict) => {
                writeln!(out, "    <failure message=\"{}\"/>", escaped(&measured))
            }
            _ => Ok(()),
        };
        let finding =
            e.finding.as_ref().map_or(String::new(), |f| format!("; recorded finding: {f}"));
        let about = format!("{} ({}); {measured}{finding}", e.claim, e.source);
        let _ = writeln!(out, "    <system-out>{}</system-out>\n  </testcase>", escaped(&about));
    }
    out + "</testsuite>\n"
}

/// Escapes text for XML. Removes control characters, which XML cannot represent.
fn escaped(text: &str) -> String {
    line(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Ledger {
        let entry = Entry {
            id: "a.b".into(),
            claim: "<b>x</b> | y\nz\u{1b}[2J\u{202e}".into(),
            source: "s".into(),
            tier: "desk",
            models: vec!["m\u{7}\u{fffe}".into()],
            expected: "a | b".into(),
            measured: vec![f64::NAN],
            tolerance_used: None,
            verdict: Verdict::Fails,
            finding: Some("\u{0}\"&<".into()),
        };
        let unjudged = Entry { verdict: Verdict::NotRun("no\u{1b}".into()), ..entry.clone() };
        Ledger { entries: vec![entry, unjudged], incomplete: Vec::new() }
    }

    #[test]
    fn a_table_keeps_its_cells_and_xml_has_no_control_character() {
        let table = markdown(&hostile());
        let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| `")).collect();
        assert_eq!(rows.len(), 1, "{table}");
        assert_eq!(rows[0].replace("\\|", "").matches('|').count(), 6, "{}", rows[0]);
        assert!(!rows[0].contains(['<', '\u{1b}', '\u{202e}']), "{}", rows[0]);
        let xml = junit(&hostile(), false);
        assert!(!xml.contains(|c| crate::printable::is_unsafe(c) && c != '\n'), "{xml}");
        assert_eq!(xml.matches("<testcase").count(), 2);
    }
}
