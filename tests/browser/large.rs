//! The page of a study of GPT-2 medium's size: 24 layers of 4,096 neurons. Its numbers are random and
//! mean nothing; its cards are those of the bundled models.

use std::sync::LazyLock;

use serde_json::json;
use tempfile::TempDir;
use universal_neurons::claims::registry;
use universal_neurons::correlation::Layout;
use universal_neurons::record::{
    BestMatch, ExtraRow, PercentileInterval, RunFolder, RunResults, Share, StudyRecord,
};
use universal_neurons::report::page::report;
use universal_neurons::table::{Column, NeuronId, Table};

use super::driver::Browser;
use crate::desk;

const LAYOUT: Layout = Layout { n_layers: 24, d_mlp: 4096 };
const PARTNERS: usize = 4;
/// What the page of such a study may weigh, in bytes.
const LIMIT: usize = 5_000_000;

/// Random numbers by splitmix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a nearly normal number: the sum of twelve uniform ones.
    fn normal(&mut self, mean: f64, sd: f64) -> f64 {
        mean + sd * ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0)
    }

    /// Returns the best match of a neuron in a partner model, somewhere near its own depth. ρ and the
    /// chance level are spread around those of the neuron as in `universal.csv` of GPT-2 medium.
    fn best(&mut self, layer: usize, [strength, chance]: [f64; 2]) -> BestMatch {
        let depth = self.normal(layer as f64, 2.0).clamp(0.0, 23.0);
        let id = NeuronId {
            layer: depth.round() as usize,
            neuron: (self.uniform() * LAYOUT.d_mlp as f64) as usize,
        };
        let rho = self.normal(strength, 0.05).clamp(0.01, 0.99);
        BestMatch { id, rho, baseline: self.normal(chance, 0.013).clamp(0.01, 0.99) }
    }

    /// Returns a column of the table that is not about correlations, in the range of the published ones.
    fn property(&mut self, column: Column) -> f64 {
        let (mean, sd) = match column {
            Column::WInNorm => (0.39, 0.07),
            Column::InputBias => (-0.4, 0.15),
            Column::WOutNorm => (0.43, 0.12),
            Column::InOutSim => (0.1, 0.2),
            Column::Mean => (-1.0, 0.3),
            Column::Var => (0.25, 0.1),
            Column::Skew => (0.6, 0.8),
            Column::Kurt => (5.0, 2.0),
            Column::VocabMean => (0.0, 0.002),
            Column::VocabVar => (0.001, 0.0002),
            Column::VocabSkew => (0.0, 0.3),
            Column::VocabKurt => (3.3, 0.5),
            _ => (0.05, 0.02),
        };
        self.normal(mean, sd)
    }
}

/// Returns the largest, mean and smallest of some numbers.
fn spread(values: &[f64]) -> [f64; 3] {
    let fold = |by: fn(f64, f64) -> f64| values.iter().copied().reduce(by).expect("some");
    [fold(f64::max), values.iter().sum::<f64>() / values.len() as f64, fold(f64::min)]
}

/// Returns the table of random numbers and its other half.
fn random_neurons() -> (Table, Vec<ExtraRow>) {
    let mut random = Random(1);
    let (mut table, mut extra) = (Table::new(), Vec::new());
    for i in 0..LAYOUT.n_layers * LAYOUT.d_mlp {
        let id = NeuronId::of(i, LAYOUT.d_mlp);
        let levels = [random.normal(0.35, 0.12), random.normal(0.17, 0.06)];
        let matches: Vec<BestMatch> =
            (0..PARTNERS).map(|_| random.best(id.layer, levels)).collect();
        let corr = spread(&matches.iter().map(|m| m.rho).collect::<Vec<_>>());
        let chance = spread(&matches.iter().map(|m| m.baseline).collect::<Vec<_>>());
        let mut row = [0.0; Column::ALL.len()];
        for column in Column::ALL {
            row[*column as usize] = match column {
                Column::MaxCorr => corr[0],
                Column::MeanCorr => corr[1],
                Column::MinCorr => corr[2],
                Column::MaxBaseline => chance[0],
                Column::MeanBaseline => chance[1],
                Column::MinBaseline => chance[2],
                Column::ExcessCorr => corr[1] - chance[1],
                other => random.property(*other),
            };
        }
        let [w_in, w_out] = [Column::WInNorm, Column::WOutNorm].map(|c| row[c as usize]);
        row[Column::L2Penalty as usize] = w_in * w_in + w_out * w_out;
        table.push(id, row);
        let excess = Some(PercentileInterval { low: corr[2], high: corr[0] });
        let matches = matches.into_iter().map(Some).collect();
        extra.push(ExtraRow { matches, excess, ..ExtraRow::default() });
    }
    (table, extra)
}

/// Returns the default run with random neurons in the place of its own.
fn random_run() -> RunFolder {
    let mut run = RunFolder::read(desk::folder()).unwrap_or_else(|e| panic!("{e}"));
    let RunResults::Study(study) = &mut run.results else { panic!("no study") };
    let (table, extra) = random_neurons();
    let excess = table.column(Column::ExcessCorr).to_vec();
    let threshold = study.threshold();
    let StudyRecord { summary, .. } = study.as_mut();
    summary.neurons = excess.len();
    summary.shares[0] = Share::above(threshold, &excess);
    let layers = || excess.chunks(LAYOUT.d_mlp);
    summary.by_layer = layers().map(|layer| Share::above(threshold, layer)).collect();
    summary.mean_excess_by_layer = layers().map(|layer| spread(layer)[1]).collect();
    summary.depth = vec![vec![1.0 / 24.0; LAYOUT.n_layers]; LAYOUT.n_layers];
    (study.layout, study.table, study.extra) = (LAYOUT, table, extra);
    run
}

struct LargePage {
    folder: TempDir,
    run: RunFolder,
}

impl LargePage {
    fn study(&self) -> &StudyRecord {
        let RunResults::Study(study) = &self.run.results else { panic!("no study") };
        study
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("report.html")
    }
}

static PAGE: LazyLock<LargePage> = LazyLock::new(|| {
    let run = random_run();
    let claims = registry().unwrap_or_else(|e| panic!("{e}"));
    let page = report(&run, &[], &claims, true).unwrap_or_else(|e| panic!("{e}"));
    let folder = TempDir::new().expect("folder");
    std::fs::write(folder.path().join("report.html"), page.html).expect("write");
    LargePage { folder, run }
});

#[test]
fn the_page_of_a_large_study_is_small() {
    let size = std::fs::metadata(PAGE.path()).expect("a page").len();
    println!("{size} bytes");
    assert!(size < LIMIT as u64, "{size} bytes");
}

#[test]
fn the_page_of_a_large_study_is_filtered_sorted_and_opened() {
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(reason) => return println!("skipped: {reason}"),
    };
    browser.open(&super::address(&PAGE.path()));
    assert!(browser.text("#neuron-count").starts_with("98304 of 98304"));
    browser.text("#neurons[data-ready]");
    let took = browser.ask("const [page] = performance.getEntriesByType('navigation'); return [page.loadEventEnd, performance.getEntriesByName('neurons')[0].startTime, performance.getEntriesByName('cards')[0].startTime]");
    println!("milliseconds until the page, its table and its cards were there: {took}");
    let study = PAGE.study();
    let excess = study.column(Column::ExcessCorr);
    let best = (0..excess.len()).max_by(|&a, &b| excess[a].total_cmp(&excess[b])).expect("some");
    assert_eq!(browser.text("#neuron-table tbody th a"), study.table.ids[best].to_string());
    let universal = study.universal().iter().filter(|u| **u).count();
    browser.click("#only-universal");
    assert!(browser.text("#neuron-count").starts_with(&format!("{universal} of 98304")));
    browser.press("#neuron-layer", "17");
    let here = study.layout.neurons(17).filter(|&i| excess[i] > 0.5).count();
    assert!(browser.text("#neuron-count").starts_with(&format!("{here} of 98304")));
    browser.click("#only-universal");
    browser.click("#neuron-table th:nth-child(6) button");
    let kurt = study.column(Column::Kurt);
    let first = study.layout.neurons(17).max_by(|&a, &b| kurt[a].total_cmp(&kurt[b]));
    let first = first.expect("some");
    let cells = "return [...document.querySelector('#neuron-table tbody tr').cells].map((c) => c.textContent.replace(' ●', ''))";
    assert_eq!(
        browser.ask(cells),
        json!(shown(study, first)),
        "the digits are those of formatting"
    );
    browser.click("#neuron-table tbody th a");
    assert!(browser.text("#card h3").starts_with(&study.table.ids[first].to_string()));
    let matches = "return [...document.querySelectorAll('#card > .columns > .wide:first-child table td')].map((c) => c.textContent)";
    let want = study
        .best_matches(first)
        .flat_map(|(_, id, rho, chance)| [id, format!("{rho:.2}"), format!("{chance:.2}")]);
    assert_eq!(browser.ask(matches), json!(want.collect::<Vec<_>>()));
    assert_eq!(browser.complaints(), Vec::<String>::new(), "console");
}

/// Returns a row of the table of neurons, as text.
fn shown(study: &StudyRecord, row: usize) -> Vec<String> {
    let columns = [
        (Column::ExcessCorr, 3),
        (Column::MeanCorr, 3),
        (Column::MeanBaseline, 3),
        (Column::Skew, 3),
        (Column::Kurt, 2),
        (Column::Sparsity, 4),
        (Column::InOutSim, 3),
        (Column::VocabKurt, 2),
    ];
    let cells = columns.iter().map(|(c, digits)| format!("{:.digits$}", study.column(*c)[row]));
    std::iter::once(study.table.ids[row].to_string()).chain(cells).collect()
}
