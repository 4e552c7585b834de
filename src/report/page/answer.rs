//! The first part of the page: the answer, the figures beside those of the paper, and how certain they
//! are.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::claims::Claim;
use crate::record::{Card, DrawError, Resampling, RunFolder, RunResults, StudyRecord};
use crate::report::terminal::difference_of;
use crate::spec::Units;
use crate::stats::percentile::median;
use crate::table::{Column, NeuronId};

/// Largest distance from the threshold at which an excess correlation counts as near to it.
const NEAR: f64 = 0.02;

/// Returns the published share of universal neurons of GPT-2 small a, in percent; `None` if other units
/// than neurons are compared.
fn published_share(claims: &[Claim], noun: &str) -> Option<String> {
    if noun != Units::default().noun() {
        return None;
    }
    let share = claims.iter().find(|c| c.id == "prevalence.small-a")?.published_figures()?;
    Some(format!("{:.2} %", share.first()?))
}

pub fn answer(folder: &RunFolder, claims: &[Claim]) -> String {
    let asked = &folder.provenance.spec;
    let RunResults::Study(study) = &folder.results else {
        return format!("Of model {}. Method: {}.", asked.models.reference, asked.source);
    };
    let s = &study.summary;
    let share = s.shares[0];
    let interval = share.interval.map(|i| format!("; 95 %: {:.2} to {:.2} %", i.low, i.high));
    let interval = interval.unwrap_or_default();
    let paper = published_share(claims, asked.noun())
        .map_or(String::new(), |share| format!(" The paper found {share} in GPT-2 small a."));
    format!(
        "Of the {} {} of model {}, {} ({:.2} %{interval}) are universal: their best matches in the models \
         {} exceed chance by more than {} in correlation.{paper}",
        share.of,
        asked.noun(),
        s.reference,
        share.universal,
        share.percent,
        s.partners.join(", "),
        share.threshold,
    )
}

#[derive(Serialize)]
pub struct Headline {
    what: String,
    here: String,
    paper: String,
}

pub fn headline(study: &StudyRecord, noun: &str, claims: &[Claim]) -> Vec<Headline> {
    let s = &study.summary;
    let share = Headline {
        what: format!("{noun} with excess above {}", s.shares[0].threshold),
        here: format!(
            "{:.2} %{}",
            s.shares[0].percent,
            s.shares[0]
                .interval
                .map_or(String::new(), |i| format!(" ({:.2} to {:.2} %)", i.low, i.high))
        ),
        paper: published_share(claims, noun).unwrap_or_default(),
    };
    let shown = |v: Option<f64>| v.map_or("none".into(), |v| format!("{v:.1}"));
    let signatures = s.signatures.iter().map(|signature| {
        let p = &signature.published;
        Headline {
            what: format!(
                "percentile of {}: median of universal {noun}, of others; difference",
                signature.property
            ),
            here: format!(
                "{}, {}; {}",
                shown(signature.universal),
                shown(signature.others),
                difference_of(signature)
            ),
            paper: format!("{:.1}, {:.1}; {:.1}", p.universal, p.others, p.universal - p.others),
        }
    });
    std::iter::once(share).chain(signatures).collect()
}

/// Returns how many distinct best matches the universal neurons have in each partner model, and how
/// many of the matches are mutual. `None` if no neuron is universal.
pub fn shared(study: &StudyRecord) -> Option<String> {
    let universal = study.universal();
    let rows: Vec<usize> = (0..universal.len()).filter(|&i| universal[i]).collect();
    let cards: Vec<&Card> =
        rows.iter().filter_map(|&row| study.card(study.table.ids[row])).collect();
    let of_partner = |(p, name): (usize, &String)| {
        let matches = rows.iter().filter_map(|&row| study.extra[row].matches[p]);
        let distinct: BTreeSet<_> = matches.map(|found| found.id.to_string()).collect();
        let found = cards.iter().flat_map(|card| &card.matches).filter(|m| m.model == *name);
        let (mutual, all) =
            found.fold((0, 0), |(n, all), m| (n + usize::from(m.rank == 1), all + 1));
        let mutual = if all > 0 { format!(" ({mutual} of {all} mutual)") } else { String::new() };
        format!("{} in {name}{mutual}", distinct.len())
    };
    let partners = study.summary.partners.iter().enumerate().map(of_partner);
    let partners: Vec<String> = partners.collect();
    let (n, partners) = (rows.len(), partners.join(", "));
    (n > 0).then(|| {
        format!(
            "Several neurons may share a best match: the {n} universal neurons have as distinct best \
             matches {partners}. Mutual means that the neuron is also the best match of its partner, \
             on the tokens read for the cards."
        )
    })
}

#[derive(Serialize)]
pub struct Best {
    id: String,
    excess: String,
    sentence: String,
}

pub fn best_of_layers(study: &StudyRecord) -> Vec<Best> {
    let excess = study.column(Column::ExcessCorr);
    let of_layer = |layer: usize| {
        let known = study.layout.neurons(layer).filter(|&i| excess[i].is_finite());
        let best = known.max_by(|&a, &b| excess[a].total_cmp(&excess[b]))?;
        let id = NeuronId::of(best, study.layout.d_mlp);
        let sentence = study
            .card(id)
            .map_or_else(|| "It was not looked at closely in this run.".into(), Card::sentence);
        Some(Best { id: id.to_string(), excess: format!("{:.3}", excess[best]), sentence })
    };
    (0..study.layout.n_layers).filter_map(of_layer).collect()
}

/// Describes how intervals were computed, or why there are none.
fn resampled(resampling: &Resampling) -> String {
    let Resampling { blocks, resamples, candidates, missing } = resampling;
    match missing {
        Some(why) => format!("There are no intervals: {why}."),
        None => format!(
            "Intervals in brackets are 95 % of {resamples} resamples. Each draws {blocks} blocks of \
             whole documents with replacement, takes every neuron's best match again among its best \
             {candidates} partners, and keeps its chance level. Intervals of differences also draw \
             neurons within each layer. A claim about a direction or a range holds only if the whole \
             interval satisfies it, fails if none of it does, and is undecided otherwise. Other models, \
             trained from other seeds, are not part of this."
        ),
    }
}

/// Describes how many neurons lie near the threshold, by the standard error of their chance level if
/// it is known.
fn near_threshold(study: &StudyRecord) -> String {
    match study.summary.draws.filter(|draws| draws.percent.is_finite()) {
        Some(DrawError { percent, near, .. }) => format!(
            "The draws of chance give the share a standard error of {percent:.2} percentage points; \
             {near} neurons lie within one standard error of the threshold."
        ),
        None => {
            let excess = study.column(Column::ExcessCorr);
            let near = excess.iter().filter(|e| (**e - study.threshold()).abs() <= NEAR).count();
            format!("{near} neurons lie within {NEAR} of the threshold.")
        }
    }
}

pub fn sure(
    folder: &RunFolder,
    study: &StudyRecord,
    with: &[RunFolder],
    bundled: bool,
) -> Vec<String> {
    let s = &study.summary;
    let spread = median(study.extra.iter().map(|row| row.baseline_sd)).unwrap_or(f64::NAN);
    let baseline = &folder.provenance.spec.correlation.baseline;
    let shares = s.shares[1..].iter().map(|x| format!("{:.2} % above {}", x.percent, x.threshold));
    let mut lines: Vec<String> = s.resampling.as_ref().map(resampled).into_iter().collect();
    lines.extend([
        format!(
            "{} tokens in {} rows were read. Chance ({}) was drawn {} times; over draws, a neuron's \
             chance level has a standard deviation of {spread:.4} (median).",
            s.tokens.used, s.tokens.rows, baseline.kind, baseline.draws
        ),
        near_threshold(study),
        format!("The share depends on the threshold: {}.", shares.collect::<Vec<_>>().join(", ")),
    ]);
    lines.extend(s.models.iter().filter(|m| !m.is_empty()).map(|m| {
        format!(
            "Model {}: {}. They have no correlation and are not universal.",
            m.model,
            m.described()
        )
    }));
    for other in with {
        if let RunResults::Figures(other) = &other.results {
            let interval = other.figures.figures.get("resampled-share");
            if let Some([low, middle, high]) = interval.map(Vec::as_slice)
                && (low + middle + high).is_finite()
            {
                lines.push(format!(
                    "Over resampled sequences the share lies between {low:.2} and {high:.2} % (95 %), \
                     median {middle:.2} %."
                ));
            }
        }
    }
    if bundled {
        lines.push(
            "These models are small and read little text. That the method finds universal neurons, \
             and in which direction they differ, can be seen here; how many there are in GPT-2 \
             cannot."
                .into(),
        );
    }
    lines
}
