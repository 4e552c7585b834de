//! What a run leaves for people and other programs: the page, its figures, cards, and files
//! that data frames read.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::{HookPoint, Site, Transformer};
use universal_neurons::plan::Plan;
use universal_neurons::record::CardFile;
use universal_neurons::record::{RunFolder, RunResults};
use universal_neurons::report::page;
use universal_neurons::store::read_json;

use crate::desk;
use crate::desk_run;
use crate::support::{path, program, run, stderr};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn every_figure_is_drawn_and_its_data_lie_beside_it() {
    let folder = RunFolder::read(desk::folder()).unwrap_or_else(|e| panic!("{e}"));
    let drawn = universal_neurons::report::charts(&folder).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(drawn.len(), 11);
    let page = read(&desk::folder().join("report.html"));
    for chart in drawn {
        let beside =
            |ending: &str| read(&desk::folder().join(format!("figures/{}.{ending}", chart.name)));
        assert_eq!(beside("svg"), chart.svg);
        assert_eq!(beside("csv").lines().count(), 1 + chart.data.rows.len());
        assert!(!chart.data.rows.is_empty() && page.contains(&chart.svg), "{}", chart.name);
    }
    // Figures add up to what they are drawn from.
    let correlations = read(&desk::folder().join("figures/correlations.csv"));
    let excess: f64 = correlations
        .lines()
        .skip(1)
        .filter_map(|line| line.rsplit(',').next()?.parse::<f64>().ok())
        .sum();
    assert!((3000.0..=3072.0).contains(&excess), "{excess} of 3072 neurons, some below zero");
}

/// The largest post-activation of L1.N507 over the text of the default run.
static LARGEST: LazyLock<f32> = LazyLock::new(|| {
    let plan = Plan::make(load_spec(&path("experiments/desk-universality.yaml")).expect("valid"));
    largest(&plan.unwrap_or_else(|e| panic!("{e}")), 1, 507)
});

/// Returns the largest post-activation of a neuron over tokens that count, computed independently
/// with the forward pass.
fn largest(plan: &Plan, layer: usize, neuron: usize) -> f32 {
    let model = Transformer::load(&plan.reference().folder).unwrap_or_else(|e| panic!("{e}"));
    let mut largest = f32::NEG_INFINITY;
    for row in &plan.tokens.rows {
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| {
            if point == (HookPoint { layer, site: Site::MlpPost }) {
                let column = values.iter().skip(neuron).step_by(width);
                let counted = column.zip(&row.ids).filter(|(_, id)| plan.tokens.counts(**id));
                largest = counted.fold(largest, |largest, (v, _)| largest.max(*v));
            }
        };
        model.forward(&[&row.ids], &mut hooks);
    }
    largest
}

#[test]
fn a_card_tells_what_the_model_does() {
    let cards: CardFile = read_json(&desk::folder().join("cards.json")).expect("cards");
    let plan = Plan::make(load_spec(&path("experiments/desk-universality.yaml")).expect("valid"));
    let plan = plan.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cards.tokens, plan.tokens.count().used, "all of a text that is small");
    let card = cards.cards.iter().find(|c| c.neuron == "L1.N507").expect("it is universal");
    let first = &card.contexts[0];
    let shown = first.values[first.at].expect("a token that counts");
    assert!((shown - f64::from(*LARGEST)).abs() <= 5e-4 + 1e-6, "{shown}");
    let values: Vec<f64> = card.contexts.iter().filter_map(|c| c.values[c.at]).collect();
    assert!(values.len() == 8 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    for card in &cards.cards {
        let all = card.histogram.yes.iter().chain(&card.histogram.no).sum::<u32>();
        assert_eq!(all as usize, cards.tokens, "{}", card.neuron);
        let yes = card.histogram.yes.iter().sum::<u32>();
        let support = card.explanations.first().map_or(0.0, |e| e.support);
        assert_eq!(f64::from(yes), support, "{}", card.neuron);
        assert!(card.contexts.iter().all(|c| c.tokens.len() == c.values.len()));
    }
}

/// Returns the post-activations of every neuron of a model at the tokens that count, of every
/// so many rows: `[token][neuron]`, computed with the forward pass alone.
fn activations(plan: &Plan, model: &Path, every: usize) -> Vec<Vec<f64>> {
    let model = Transformer::load(model).unwrap_or_else(|e| panic!("{e}"));
    let mut all = Vec::new();
    for row in plan.tokens.rows.iter().step_by(every) {
        let mut of_row: Vec<Vec<f64>> = vec![Vec::new(); row.ids.len()];
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| {
            if point.site == Site::MlpPost {
                let rows = values.chunks(width).zip(&mut of_row);
                rows.for_each(|(v, out)| out.extend(v.iter().map(|v| f64::from(*v))));
            }
        };
        model.forward(&[&row.ids], &mut hooks);
        let counted = of_row.into_iter().zip(&row.ids);
        all.extend(counted.filter(|(_, id)| plan.tokens.counts(**id)).map(|(values, _)| values));
    }
    all
}

/// Pearson's correlation of two lists, as it is defined.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| of(x - mx, y - my)).sum()
    };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn a_match_is_seen_from_both_sides() {
    let cards: CardFile = read_json(&desk::folder().join("cards.json")).expect("cards");
    let plan = Plan::make(load_spec(&path("experiments/desk-universality.yaml")).expect("valid"));
    let plan = plan.unwrap_or_else(|e| panic!("{e}"));
    let every = cards.tokens.div_ceil(12_288);
    let [own, other] = [0, 1].map(|m| activations(&plan, &plan.models[m].folder, every));
    assert_eq!((own.len(), cards.tokens_of_partners), (other.len(), own.len()));
    let column = |all: &[Vec<f64>], i: usize| all.iter().map(|row| row[i]).collect::<Vec<f64>>();
    let index = |name: &str| {
        let (layer, neuron) = name[1..].split_once(".N").expect("a name");
        1024 * layer.parse::<usize>().expect("a layer") + neuron.parse::<usize>().expect("a neuron")
    };
    // One match that is mutual, one that is not.
    let of_b = || cards.cards.iter().map(|card| (card, &card.matches[0]));
    let chosen =
        [of_b().find(|(card, _)| card.neuron == "L1.N507"), of_b().find(|(_, m)| m.rank > 2)];
    for (card, found) in chosen.map(|found| found.expect("a card")) {
        assert_eq!(found.model, "b");
        let y = column(&other, index(&found.neuron));
        let rho: Vec<f64> = (0..3072).map(|i| correlation(&column(&own, i), &y)).collect();
        let own_rho = rho[index(&card.neuron)];
        assert!((found.rho - own_rho).abs() < 6e-4, "{}: {own_rho}", card.neuron);
        assert_eq!(found.rank, 1 + rho.iter().filter(|v| **v > own_rho).count(), "{}", card.neuron);
        let best = rho.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!((found.closest_rho - best).abs() < 6e-4 && rho[index(&found.closest)] == best);
        let slope = correlation(&column(&own, index(&card.neuron)), &y)
            * (spread(&y) / spread(&column(&own, index(&card.neuron))));
        assert!((found.joint.line[1] - slope).abs() < 1e-4 * slope.abs(), "{slope}");
    }
    for card in &cards.cards {
        assert_eq!(card.matches.len(), 4, "{}", card.neuron);
        for found in &card.matches {
            let tokens: u32 = found.joint.counts.iter().map(|(_, n)| n).sum();
            assert_eq!(tokens as usize, cards.tokens_of_partners, "{}", card.neuron);
            assert!(
                cards
                    .partners
                    .iter()
                    .any(|p| (&p.model, &p.neuron) == (&found.model, &found.neuron))
            );
            for (context, values) in card.compared.iter().zip(&found.values) {
                let same =
                    context.values.iter().zip(values).all(|(a, b)| a.is_some() == b.is_some());
                assert!(same, "both neurons are known at the same tokens");
            }
        }
    }
}

fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn the_page_says_how_many_partners_are_shared() {
    let page = read(&desk::folder().join("report.html"));
    let extra = read(&desk::folder().join("neurons-extra.csv"));
    let table = read(&desk::folder().join("neurons.csv"));
    let columns = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
    };
    let (extra, table) = (columns(&extra), columns(&table));
    let place =
        |header: &[String], name: &str| header.iter().position(|h| h == name).expect("a column");
    let excess = place(&table[0], "excess_corr");
    let best = place(&extra[0], "best_b");
    let universal = table.iter().zip(&extra).skip(1);
    let universal = universal.filter(|(row, _)| row[excess].parse::<f64>().is_ok_and(|v| v > 0.5));
    let distinct: std::collections::BTreeSet<_> = universal.map(|(_, e)| e[best].clone()).collect();
    assert!(
        page.contains(&format!("distinct best matches {} in b (", distinct.len())),
        "{}",
        distinct.len()
    );
}

#[test]
fn the_page_says_what_verdicts_are_about_and_worth() {
    let page = read(&desk::folder().join("report.html"));
    let row = |id: &str| {
        let (_, from) = page.split_once(&format!("id=\"claim-{id}\"")).expect(id);
        from.split("</tr>").next().expect("a row")
    };
    for (id, parts) in [
        (
            "prevalence.early",
            &[">holds<", "by definition: nearly", "in 2 of 6 orders of the layers"][..],
        ),
        ("baseline.gap-universal", &[">holds<", "by definition: a neuron is universal if"]),
        ("signature.skew", &[">holds<", "of 1000 random choices"]),
        ("role.prediction-onset", &[">undecided<", "no universal neuron"]),
        ("role.prediction", &[">fails<"]),
    ] {
        let row = row(id);
        for part in parts.iter().chain(&["on the bundled models", "of the bundled model a"]) {
            assert!(row.contains(part), "{id}: no {part}: {row}");
        }
    }
    let badges = page.matches("<span class=\"about\">on the bundled models</span>").count();
    assert_eq!(badges, page.matches("data-verdict=").count(), "every verdict has one");
}

#[test]
fn experiments_of_other_kinds_come_onto_the_page() {
    let root = TempDir::new().expect("folder");
    let spec = [("families", "experiments/families.yaml")];
    let study = desk_run::with_experiments(&spec).unwrap_or_else(|e| panic!("{e}"));
    let families = study.join("families");
    // The same neuron is explained by the same question, whoever asks.
    let cards: CardFile = read_json(&desk::folder().join("cards.json")).expect("cards");
    let RunResults::Figures(found) = RunFolder::read(&families).expect("a run").results else {
        panic!("no experiment of another kind")
    };
    let table = &found.tables["families"];
    for card in &cards.cards {
        let row = (0..table.rows.len()).find(|&row| {
            format!("L{}.N{}", table.cell(row, "layer"), table.cell(row, "neuron")) == card.neuron
        });
        let best = table.cell(row.expect("a row"), "test");
        assert_eq!(card.explanations[0].test, best, "{}", card.neuron);
    }
    let out = root.path().join("page.html");
    let (page, with) = (out.display().to_string(), families.display().to_string());
    let desk = desk::folder().display().to_string();
    stdout(&run(root.path(), &["report", &desk, "--paper", "--with", &with, "--out", &page]));
    let (alone, together) = (read(&desk::folder().join("report.html")), read(&out));
    assert!(!alone.contains("Families by depth") && together.contains("Families by depth"));
    let waiting = |page: &str| page.matches("no run of the `families` experiment").count();
    assert!(waiting(&alone) > 0 && waiting(&together) == 0);
    // The paper's figures: from the study, from the other run, and of a kind without a run here.
    assert!(!alone.contains("Figures of the paper"));
    for part in [
        "<a href=\"#figure-depth\">depth</a>, drawn from ",
        "<a href=\"#figure-families-by-depth\">families-by-depth</a>, drawn from ",
        "no run of `kind: entropy` is on the page",
        "<a href=\"#figure-weight-cosines\">weight-cosines</a>, drawn from ",
    ] {
        assert!(together.contains(part), "no {part}");
    }
    // A page of its own, too.
    assert!(read(&families.join("report.html")).contains("Families by depth"));
    let refused = run(root.path(), &["report", &desk, "--with", &desk]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is a universality study"), "{}", stderr(&refused));
}

#[test]
fn text_from_outside_stays_text() {
    let root = TempDir::new().expect("folder");
    let hostile = "</script><img src=x onerror=alert(1)>";
    for entry in std::fs::read_dir(desk::folder()).expect("folder") {
        let from = entry.expect("entry").path();
        if from.is_file() {
            std::fs::copy(&from, root.path().join(from.file_name().expect("name"))).expect("copy");
        }
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let file = root.path().join(name);
        let mut value: Value = read_json(&file).expect("JSON");
        change(&mut value);
        std::fs::write(&file, value.to_string()).expect("write");
    };
    edit("provenance.json", &|v| v["spec"]["question"] = hostile.into());
    edit("cards.json", &|v| v["cards"][0]["promoted"][0][0] = hostile.into());
    let folder = RunFolder::read(root.path()).expect("a run");
    let page = page::report(&folder, &[], &[], false).expect("a page").html;
    assert!(
        page.contains("onerror") && !page.contains("<img"),
        "it is there, and it is not an element"
    );
}

#[test]
fn activations_are_those_of_the_forward_pass() {
    let root = TempDir::new().expect("folder");
    let out = root.path().join("a.safetensors");
    let name = out.display().to_string();
    stdout(&run(&path(""), &["activations", "L1.N507", "L0.N3", "--out", &name]));
    let bytes = std::fs::read(&out).expect("written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let post = tensors.tensor("post").expect("a tensor");
    assert_eq!(post.shape(), [2, 40818]);
    let (first, _) = post.data().split_at(4 * 40818);
    let values = first.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let want = *LARGEST;
    let got = values.fold(f32::NEG_INFINITY, f32::max);
    assert!((got - want).abs() < 1e-5, "{got}, {want}");
    let refused = run(&path(""), &["activations", "L9.N1", "--out", &name]);
    assert_eq!(refused.status.code(), Some(2));
}

/// The clusters of a family lead to the cards of a study of it, and its page tells what they do.
#[test]
fn clusters_lead_to_the_cards_of_their_neurons() {
    let root = TempDir::new().expect("folder");
    let base = path("experiments/desk-universality.yaml");
    let model = |name: &str| {
        let folder = path("experiments/desk").join(name);
        format!("    - {{ name: {name}, path: '{}' }}\n", folder.display())
    };
    let family = ["a", "b", "c"].map(model).concat();
    for kind in ["universality", "matching"] {
        let text = format!(
            "include: {}\nname: few-{kind}\nkind: {kind}\ncorpus: {{ limit: 8 }}\n\
             correlation: {{ threshold: 0.6, baseline: {{ draws: 1 }} }}\ncards: {{ neurons: 3 }}\n\
             statistics: {{ intervals: {{ blocks: 0 }} }}\nmodels:\n  family:\n{family}",
            base.display()
        );
        std::fs::write(root.path().join(format!("{kind}.yaml")), text).expect("write");
        let spec = format!("{kind}.yaml");
        stdout(&run(root.path(), &["run", &spec, "--quiet", "--out", kind]));
    }
    stdout(&run(root.path(), &["report", "universality", "--with", "matching"]));
    let page = read(&root.path().join("universality/report.html"));
    let clusters = read(&root.path().join("matching/clusters.csv"));
    let (_, table) = page.split_once("One neuron in several models").expect("the clusters");
    let (table, _) = table.split_once("</table>").expect("a table");
    assert_eq!(table.matches("<tr>").count(), 1 + 60.min(clusters.lines().count() - 1));
    let cards: CardFile = read_json(&root.path().join("universality/cards.json")).expect("cards");
    let first = clusters.lines().nth(1).expect("a cluster").split(',').nth(5).expect("of a");
    let carded = |id: &str| cards.cards.iter().find(|card| card.neuron == id);
    let linked = table.matches("href=\"#L").count();
    assert!(linked > 0 && table.contains(first), "{linked} links to cards of the reference");
    let in_clusters =
        cards.cards.iter().filter(|card| table.contains(&format!(">{}<", card.neuron)));
    for card in in_clusters {
        let strongest = card.sentence().replace('&', "&amp;");
        let strongest = strongest.split_once("It is strongest").expect("a sentence").0.to_owned();
        assert!(carded(&card.neuron).is_some() && table.contains(strongest.trim()), "{strongest}");
    }
    let own = read(&root.path().join("matching/report.html"));
    assert!(own.contains("One neuron in several models") && !own.contains("href=\"#L0.N"));
}

#[test]
fn new_experiments_are_valid_wherever_they_are_written() {
    let root = TempDir::new().expect("folder");
    let kinds = [
        "universality",
        "families",
        "prediction",
        "entropy",
        "attention",
        "ablation",
        "reading",
        "matching",
        "split-half",
        "perturbed",
        "dynamics",
        "convergence",
    ];
    for kind in kinds {
        let file = root.path().join(format!("mine-{kind}.yaml"));
        let name = file.display().to_string();
        stdout(&run(&path(""), &["new", kind, &name]));
        let text = read(&file);
        assert!(text.starts_with('#') && text.contains(&format!("name: mine-{kind}\n")), "{text}");
        stdout(&run(&path(""), &["validate", &name]));
        let again = run(&path(""), &["new", kind, &name]);
        assert_eq!(again.status.code(), Some(2), "a file of the user is kept");
    }
    // Anywhere else, what is written leads to the experiment by a relative path.
    stdout(&run(root.path(), &["new", "families"]));
    let text = read(&root.path().join("my-families.yaml"));
    assert!(text.contains("include: ../"), "{text}");
    stdout(&run(root.path(), &["validate", "my-families.yaml"]));
    // The checkout around the file counts first.
    std::fs::create_dir_all(root.path().join("own/experiments")).expect("folder");
    std::fs::create_dir_all(root.path().join("own/studies/deep")).expect("folder");
    let base = "own/experiments/desk-universality.yaml";
    std::os::unix::fs::symlink(path("experiments/desk-universality.yaml"), root.path().join(base))
        .expect("link");
    stdout(&run(root.path(), &["new", "universality", "own/studies/deep/x.yaml"]));
    let text = read(&root.path().join("own/studies/deep/x.yaml"));
    assert!(text.contains("include: ../../experiments/desk-universality.yaml\n"), "{text}");
    let nowhere = run(root.path(), &["new", "families", "nowhere/x.yaml"]);
    assert_eq!(nowhere.status.code(), Some(2), "its folder does not exist");
    let unknown = run(&path(""), &["new", "alchemy"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("possible values"), "{}", stderr(&unknown));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let root = TempDir::new().expect("folder");
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&run(root.path(), &["completions", shell]));
        assert!(text.contains("bench-host") && text.contains("compare"), "{shell}");
    }
    assert!(stdout(&run(root.path(), &["man"])).contains(".SH SUBCOMMANDS"));
}

#[test]
fn nothing_is_coloured_that_is_no_terminal() {
    let mut command = program(&path(""), &["validate", "nowhere.yaml"]);
    let output = command.env("NO_COLOR", "1").output().expect("the program starts");
    let all = [output.stdout, output.stderr].concat();
    assert!(!all.is_empty() && !all.contains(&0x1B));
}
