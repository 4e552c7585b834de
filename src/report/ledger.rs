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
                "{:<13} {}, {}: expected {}, measured {}{used}{}{}",
                verdict.to_string(),
                name(e),
                e.about,
                e.expected,
                e.measured_text(),
                caveat(e).map_or(String::new(), |caveat| format!("; {caveat}")),
                e.finding.as_ref().map_or(String::new(), |f| format!("; finding: {f}")),
            ),
        };
    }
    ledger.incomplete.iter().for_each(|line| out += &format!("{line}\n"));
    out + &summary(ledger) + "\n"
}

/// Returns a name of the form `id [tier model…]`, or `id [unknown origin, not model…]` for a verdict
/// on other weights.
pub fn name(e: &Entry) -> String {
    let models = e.models.join(" ");
    match e.unknown_origin {
        Some(_) => format!("{} [unknown origin, not {models}]", e.id),
        None => format!("{} [{} {models}]", e.id, e.tier),
    }
}

/// Returns why a claim is undecided, or why a verdict is little evidence: that the weights are of
/// unknown origin, that the claim holds by definition, and how often it would hold by chance. `None`
/// if nothing is known of that kind.
pub fn caveat(e: &Entry) -> Option<String> {
    let definition = e.by_definition.as_ref().map(|reason| format!("by definition: {reason}"));
    let chance = e.chance.as_ref().map(ToString::to_string);
    let origin = e.unknown_origin.clone().into_iter().chain(e.open.clone());
    let parts: Vec<String> = origin.chain(definition).chain(chance).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Returns the numbers of verdicts, in one line; those on weights of unknown origin are counted by
/// themselves.
pub fn summary(ledger: &Ledger) -> String {
    let [holds, contradicted, fails, undecided, not_run] = ledger.counts(false);
    let known = |verdict: Verdict| {
        let recorded = |e: &&Entry| e.verdict == verdict && e.recorded == verdict;
        match ledger.entries.iter().filter(recorded).count() {
            0 => String::new(),
            n => format!(" ({n} as recorded)"),
        }
    };
    let (failing, open) = (known(Verdict::Fails), known(Verdict::Undecided));
    let unknown = match ledger.counts(true) {
        [0, 0, 0, 0, _] => String::new(),
        [holds, contradicted, fails, undecided, _] => format!(
            "; on weights of unknown origin {holds} hold, {contradicted} contradicted, \
             {fails} fail, {undecided} undecided"
        ),
    };
    format!(
        "{holds} hold, {contradicted} contradicted, {fails} fail{failing}, \
         {undecided} undecided{open}, {not_run} not run{unknown}"
    )
}

/// Returns a Markdown table of the claims that were judged, and a line about the others.
pub fn markdown(ledger: &Ledger) -> String {
    let mut out = String::from(
        "| claim | evidence | expected | measured | verdict |\n|---|---|---|---|---|\n",
    );
    for e in ledger.entries.iter().filter(|e| !matches!(e.verdict, Verdict::NotRun(_))) {
        let finding = e.finding.as_ref().map_or(String::new(), |f| format!(": {f}"));
        let caveat = caveat(e).map_or(String::new(), |caveat| format!(" ({caveat})"));
        let cells = [
            format!("`{}` {}", e.id, e.claim),
            format!("{} ({})", e.about, e.models.join(", ")),
            e.expected.clone(),
            e.measured_text(),
            format!("{}{finding}{caveat}", e.verdict),
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

/// Returns the ledger as JUnit XML for CI systems. A failure is one that [`Entry::is_failure`]
/// counts; a claim that was not run or is undecided as recorded is skipped. The output of every
/// test case has the statement, its source, what the verdict is about and the recorded finding.
pub fn junit(ledger: &Ledger, strict: bool) -> String {
    let skipped = ledger.entries.iter().filter(|e| is_skipped(e, strict)).count();
    let fails = ledger.entries.iter().filter(|e| e.is_failure(strict)).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"claims\" tests=\"{}\" failures=\"{fails}\" skipped=\"{skipped}\">",
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
            Verdict::Undecided => {
                writeln!(out, "    <skipped message=\"{}\"/>", escaped(&measured))
            }
            _ => Ok(()),
        };
        let finding =
            e.finding.as_ref().map_or(String::new(), |f| format!("; recorded finding: {f}"));
        let caveat = caveat(e).map_or(String::new(), |caveat| format!("; {caveat}"));
        let about = format!("{} ({}); {}, {measured}{caveat}{finding}", e.claim, e.source, e.about);
        let _ = writeln!(out, "    <system-out>{}</system-out>\n  </testcase>", escaped(&about));
    }
    out + "</testsuite>\n"
}

/// Returns whether a claim counts as skipped: it was not run, or is undecided as recorded.
fn is_skipped(e: &Entry, strict: bool) -> bool {
    match e.verdict {
        Verdict::NotRun(_) => true,
        Verdict::Undecided => !e.is_failure(strict),
        _ => false,
    }
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
            about: "on the bundled models",
            models: vec!["m\u{7}\u{fffe}".into()],
            expected: "a | b".into(),
            measured: vec![f64::NAN],
            interval: None,
            open: None,
            tolerance_used: None,
            by_definition: Some("<i>|\u{7}".into()),
            chance: None,
            verdict: Verdict::Fails,
            recorded: Verdict::Holds,
            unknown_origin: None,
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
