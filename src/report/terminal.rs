//! The summary of a run, in plain text that fits a screen.

use std::fmt::{self, Write};

use crate::correlation::ScreeningCounts;
use crate::findings::{Figures, Findings, Outcome, Share, Signature, Summary};
use crate::spec::Spec;

/// The summary as text.
pub fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, &outcome.reference.summary, &outcome.also);
    text
}

/// What an experiment of another kind than universality found, as text.
pub fn figures(spec: &Spec, figures: &Figures) -> String {
    let mut text = format!("{}: {}\n", spec.name, spec.question);
    figures.lines.iter().for_each(|line| {
        text.push_str(line);
        text.push('\n');
    });
    text.push_str("\nfigures\n");
    for (name, values) in &figures.named {
        let values: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        text.push_str(&format!("  {name:<24} {}\n", values.join(" ")));
    }
    text
}

fn write(out: &mut String, s: &Summary, also: &[Findings]) -> fmt::Result {
    let t = &s.tokens;
    writeln!(out, "{}: model {} against {}", s.experiment, s.reference, s.partners.join(", "))?;
    writeln!(
        out,
        "tokens    {} used in {} rows; left out: {} BOS, {} newline, {} padding",
        t.used, t.rows, t.bos, t.newline, t.padding
    )?;
    if s.documents.empty > 0 {
        let d = &s.documents;
        writeln!(out, "documents {} read, {} skipped that hold no text", d.documents, d.empty)?;
    }
    writeln!(out, "neurons   {}{}", s.neurons, flagged(s))?;
    if let Some(ScreeningCounts { exact, screened_again, of }) = s.screening {
        writeln!(
            out,
            "screened  {} with candidates alone; {exact} exactly, {screened_again} of them in doubt only afterwards",
            of - exact
        )?;
    }
    writeln!(out)?;
    write_shares(out, s)?;
    write_top(out, s)?;
    write_signatures(out, &s.signatures)?;
    write_also(out, also)?;
    if let Some(timing) = &s.timing {
        let all = timing.load_s + timing.tokens_s + timing.finish_s;
        write!(out, "\n{all:.1} s in all")?;
        // Shares that are merged were read elsewhere.
        if timing.tokens_s > 0.0 {
            let rate = t.used as f64 / timing.tokens_s;
            write!(out, "; {rate:.0} tokens/s through all models and sums")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn flagged(s: &Summary) -> String {
    let part = |names: &[String], what: &str| match names {
        [] => String::new(),
        few if few.len() <= 5 => format!("; {} {what}: {}", few.len(), few.join(" ")),
        many => format!("; {} {what}, flagged in neurons-extra.csv", many.len()),
    };
    part(&s.dead, "never vary") + &part(&s.non_finite, "not finite")
}

fn share(share: &Share) -> String {
    format!(
        "{:.2} % above {} ({} of {})",
        share.percent, share.threshold, share.universal, share.of
    )
}

fn write_shares(out: &mut String, s: &Summary) -> fmt::Result {
    let shares: Vec<String> = s.shares.iter().map(share).collect();
    writeln!(out, "universal neurons, by excess correlation")?;
    writeln!(out, "  {}", shares.join(" · "))?;
    let layers = s.by_layer.iter().enumerate();
    let layers: Vec<String> = layers
        .map(|(l, share)| format!("L{l} {:.2} % ({})", share.percent, share.universal))
        .collect();
    writeln!(out, "  by layer: {}", layers.join(" · "))
}

fn write_top(out: &mut String, s: &Summary) -> fmt::Result {
    writeln!(out, "\nlargest excess, with best partners (ρ)")?;
    for top in &s.top {
        writeln!(out, "  {:<9} {:.3}  {}", top.neuron, top.excess_corr, top.partners.join("  "))?;
    }
    Ok(())
}

fn write_signatures(out: &mut String, signatures: &[Signature]) -> fmt::Result {
    writeln!(
        out,
        "\nwithin-layer percentile, median      here                paper (GPT-2 small a)"
    )?;
    writeln!(
        out,
        "  {:<22} {:>11} {:>9} {:>11} {:>9}",
        "", "universal", "others", "universal", "others"
    )?;
    for s in signatures {
        let p = &s.published;
        writeln!(
            out,
            "  {:<22} {:>11} {:>9} {:>11.1} {:>9.1}  {}",
            s.property,
            percentile(s.universal),
            percentile(s.others),
            p.universal,
            p.others,
            p.direction
        )?;
    }
    Ok(())
}

fn write_also(out: &mut String, also: &[Findings]) -> fmt::Result {
    if !also.is_empty() {
        writeln!(out, "\nuniversal neurons of the other models, each against all others")?;
    }
    for Findings { summary: s, .. } in also {
        let shares: Vec<String> = s.shares.iter().map(share).collect();
        writeln!(out, "  {}: {}{}", s.reference, shares.join(" · "), flagged(s))?;
    }
    Ok(())
}

fn percentile(value: Option<f64>) -> String {
    value.map_or("none".into(), |v| format!("{v:.1}"))
}
