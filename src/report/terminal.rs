//! The summary of a run, as text that fits on a screen.

use std::fmt::{self, Write};

use crate::correlation::ScreeningCounts;
use crate::findings::{Figures, Findings, Outcome};
use crate::record::{Resampling, Share, Signature, Summary};
use crate::spec::Spec;

/// Returns the summary of a study as text.
pub fn summary(spec: &Spec, outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, spec.noun(), &outcome.reference.summary, &outcome.also);
    text
}

/// Returns the result of an experiment other than a universality study as text.
pub fn figures(spec: &Spec, figures: &Figures) -> String {
    let mut text = format!("{}: {}\n", spec.name, spec.question);
    figures.lines.iter().for_each(|line| {
        text.push_str(line);
        text.push('\n');
    });
    text.push_str("\nfigures\n");
    for (name, values) in &figures.named {
        let values: Vec<String> = values.iter().map(|v| figure(*v)).collect();
        text.push_str(&format!("  {name:<24} {}\n", values.join(" ")));
    }
    text
}

fn write(out: &mut String, noun: &str, s: &Summary, also: &[Findings]) -> fmt::Result {
    let t = &s.tokens;
    writeln!(out, "{}: model {} against {}", s.experiment, s.reference, s.partners.join(", "))?;
    writeln!(
        out,
        "tokens    {} used in {} rows; excluded: {} BOS, {} newline, {} padding",
        t.used, t.rows, t.bos, t.newline, t.padding
    )?;
    if s.documents.empty > 0 {
        let d = &s.documents;
        writeln!(out, "documents {} read, {} without text skipped", d.documents, d.empty)?;
    }
    writeln!(out, "{noun:<9} {}", s.neurons)?;
    write_uncorrelated(out, s)?;
    if let Some(ScreeningCounts { exact, screened_again, of }) = s.screening {
        writeln!(
            out,
            "screened  {} {noun} compared only with candidates; {exact} compared exactly, {screened_again} of them after the check of results",
            of - exact
        )?;
    }
    writeln!(out)?;
    write_shares(out, noun, s)?;
    write_top(out, s)?;
    write_signatures(out, &s.signatures)?;
    write_also(out, also)?;
    if let Some(timing) = &s.timing {
        let all = timing.load_s + timing.tokens_s + timing.finish_s;
        write!(out, "\n{all:.1} s in all")?;
        // The tokens of merged shares were read by other runs.
        if timing.tokens_s > 0.0 {
            let rate = t.used as f64 / timing.tokens_s;
            write!(out, "; {rate:.0} tokens/s through all models and sums")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes a line for every model with neurons that have no correlation.
fn write_uncorrelated(out: &mut String, s: &Summary) -> fmt::Result {
    let flagged: Vec<_> = s.models.iter().filter(|m| !m.is_empty()).collect();
    for m in &flagged {
        writeln!(out, "without correlation  model {}: {}", m.model, m.described())?;
    }
    if !flagged.is_empty() {
        writeln!(out, "  (all are named in summary.json)")?;
    }
    Ok(())
}

fn share(share: &Share) -> String {
    let Share { percent, threshold, universal, of, interval } = share;
    let interval = interval.map(|i| format!("; 95 %: {:.2} to {:.2} %", i.low, i.high));
    let interval = interval.unwrap_or_default();
    format!("{percent:.2} % above {threshold} ({universal} of {of}{interval})")
}

/// Writes how intervals were computed, or why there are none.
fn write_resampling(out: &mut String, s: &Summary) -> fmt::Result {
    match &s.resampling {
        None => Ok(()),
        Some(Resampling { missing: Some(why), .. }) => writeln!(out, "  no intervals: {why}"),
        Some(Resampling { blocks, resamples, .. }) => writeln!(
            out,
            "  95 %: over {resamples} resamples of the text in {blocks} blocks of documents"
        ),
    }
}

fn write_shares(out: &mut String, noun: &str, s: &Summary) -> fmt::Result {
    let shares: Vec<String> = s.shares.iter().map(share).collect();
    let between = if s.shares.iter().any(|s| s.interval.is_some()) { "\n  " } else { " · " };
    writeln!(out, "universal {noun}, by excess correlation")?;
    writeln!(out, "  {}", shares.join(between))?;
    let layers = s.by_layer.iter().enumerate();
    let layers: Vec<String> = layers
        .map(|(l, share)| format!("L{l} {:.2} % ({})", share.percent, share.universal))
        .collect();
    writeln!(out, "  by layer: {}", layers.join(" · "))?;
    write_resampling(out, s)
}

fn write_top(out: &mut String, s: &Summary) -> fmt::Result {
    writeln!(out, "\nlargest excess, with best partners (ρ)")?;
    for top in &s.top {
        writeln!(out, "  {:<9} {:.3}  {}", top.neuron, top.excess_corr, top.partners.join("  "))?;
    }
    Ok(())
}

fn write_signatures(out: &mut String, signatures: &[Signature]) -> fmt::Result {
    let has_intervals = signatures.iter().any(|s| s.interval.is_some());
    let width = if has_intervals { 25 } else { 0 };
    let (title, difference) = ("\nwithin-layer percentile, median", "difference (95 %)");
    let difference = if has_intervals { difference } else { "" };
    writeln!(out, "{title}      here{:width$}                paper (GPT-2 small a)", "")?;
    writeln!(
        out,
        "  {:<22} {:>11} {:>9}{difference:>width$} {:>11} {:>9}",
        "", "universal", "others", "universal", "others"
    )?;
    for s in signatures {
        let p = &s.published;
        writeln!(
            out,
            "  {:<22} {:>11} {:>9}{:>width$} {:>11.1} {:>9.1}  {}",
            s.property,
            percentile(s.universal),
            percentile(s.others),
            s.interval.map_or(String::new(), |_| difference_of(s)),
            p.universal,
            p.others,
            p.direction
        )?;
    }
    Ok(())
}

/// Returns the difference of the medians, universal minus others, with its interval if it is known.
pub fn difference_of(signature: &Signature) -> String {
    let Some(difference) = signature.difference() else { return "none".into() };
    let interval = signature.interval.map(|i| format!(" ({:.1} to {:.1})", i.low, i.high));
    format!("{difference:.1}{}", interval.unwrap_or_default())
}

fn write_also(out: &mut String, also: &[Findings]) -> fmt::Result {
    if !also.is_empty() {
        writeln!(out, "\nuniversal neurons of the other models, each against all others")?;
    }
    for Findings { summary: s, .. } in also {
        let shares: Vec<String> = s.shares.iter().map(share).collect();
        writeln!(out, "  {}: {}", s.reference, shares.join(" · "))?;
    }
    Ok(())
}

fn figure(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "none".into() }
}

fn percentile(value: Option<f64>) -> String {
    value.map_or("none".into(), |v| format!("{v:.1}"))
}
