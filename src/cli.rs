//! The command line as types. `main.rs` dispatches the commands.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::claims::Tier;
use crate::experiment::KINDS;
use crate::run::Shard;
use crate::spec::DeviceChoice;
use crate::table::NeuronId;

/// The experiment that is run if none is named.
pub const DEFAULT_SPEC: &str = "experiments/desk-universality.yaml";

/// Where the run of [`DEFAULT_SPEC`] is.
pub const DEFAULT_RUN: &str = "runs/desk-universality";

/// Are the same neurons found again in a model trained from another seed?
///
/// Without a command, runs the experiment on the bundled models.
///
/// Exit codes: 0 if the command succeeded and every verdict is the recorded one, 1 if a verdict is
/// another one, 2 if something could not run.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, for use without a command.
    #[command(flatten)]
    pub run: RunOptions,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment and write its tables, or all experiments of a folder.
    ///
    /// The study of a folder runs first, into runs/NAME. The other experiments take its universal
    /// neurons and go into folders below it, and the claims are judged at the end. One that fails
    /// does not stop the others. With --resume, those that have their results are not run again.
    Run {
        /// The experiment file, or a folder of them.
        #[arg(default_value = DEFAULT_SPEC)]
        spec: PathBuf,
        /// How to run it.
        #[command(flatten)]
        options: RunOptions,
    },
    /// Merge the shares of a run that `run --shard` wrote, and write its tables.
    Merge {
        /// The experiment file.
        spec: PathBuf,
        /// The files of all shares, in any order.
        #[arg(required = true)]
        shares: Vec<PathBuf>,
        /// Folder for the results [default: runs/NAME, NAME as in the experiment].
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Show no progress.
        #[arg(long)]
        quiet: bool,
        /// Print the results as JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Check experiment files, and everything they refer to, without running them.
    Validate {
        /// The experiment files.
        #[arg(required = true)]
        specs: Vec<PathBuf>,
        /// Print what was found as JSON, the mistakes included.
        #[arg(long)]
        json: bool,
    },
    /// Judge the claims of the papers on the available evidence.
    ///
    /// The bundled models are run. The authors' tables are read from the folder
    /// that UNIVERSAL_NEURONS_DATA names.
    Verify(VerifyOptions),
    /// Show a neuron: its row with percentiles, partners, tokens and contexts.
    ///
    /// With --text or --file, shows its activation at each token of that text instead. No run is
    /// needed for this: the model is the reference of --spec, or else of the run's spec.
    ///
    /// A run has a row for each neuron of its reference. With --model, the neuron belongs to
    /// another model of the experiment: its tokens and contexts are shown, and the neurons of the
    /// reference that have it as their best match.
    Inspect {
        /// The neuron, as in L0.N12.
        neuron: NeuronId,
        /// Folder of a run.
        #[arg(long, value_name = "FOLDER", default_value = DEFAULT_RUN)]
        run: PathBuf,
        /// The experiment that the run was made with [default: the file that the run recorded].
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// The model of the neuron, by its name in the experiment [default: the reference].
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        /// Print the neuron as JSON.
        #[arg(long)]
        json: bool,
        /// A text of your own.
        #[command(flatten)]
        text: TextOptions,
    },
    /// Write the activations of some neurons at every token, as safetensors.
    Activations {
        /// The neurons, as in L0.N12.
        #[arg(required = true)]
        neurons: Vec<NeuronId>,
        /// The experiment; its reference model reads its text.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_SPEC)]
        spec: PathBuf,
        /// The file to write.
        #[arg(long, value_name = "FILE", default_value = "activations.safetensors")]
        out: PathBuf,
    },
    /// Show what changed from one run to another; exits with 1 if a verdict changed.
    Compare {
        /// Folder of a run.
        first: PathBuf,
        /// Folder of another run with the same reference model.
        second: PathBuf,
        /// Print the comparison as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the tables of a run with the columns and the order of the authors' tables.
    ///
    /// Writes `universal.csv` and `neuron_dfs.csv` (all neurons), and `prediction_neurons.csv` if
    /// there is a run of prediction neurons.
    Export {
        /// Folder of a run.
        #[arg(default_value = "runs/desk-universality")]
        run: PathBuf,
        /// Folder of a run of `kind: prediction` with the same reference model.
        #[arg(long, value_name = "FOLDER")]
        prediction: Option<PathBuf>,
        /// Folder to write to, which must not exist.
        #[arg(long, value_name = "FOLDER", default_value = "published-tables")]
        out: PathBuf,
        /// Print the files and their numbers of rows as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch evidence from its public home.
    Fetch {
        /// What to fetch.
        #[command(subcommand)]
        what: FetchTarget,
    },
    /// Measure how close the matrix products and the forward pass come to this machine's peak.
    ///
    /// With REQUIRE_GPU=1 in the environment, exits with 2 if there is no GPU.
    BenchHost {
        /// Print the rates as JSON.
        #[arg(long)]
        json: bool,
        /// Also run a study of five models of 12,288 neurons.
        #[arg(long)]
        study: bool,
        /// Exit with 1 if a fraction is below its floor in this file, and with 2 if a floor is
        /// for something that is not measured here.
        #[arg(long, value_name = "FILE")]
        floors: Option<PathBuf>,
    },
    /// Write the report of a run again, with experiments of other kinds on the same page.
    Report {
        /// Folder of a run.
        #[arg(default_value = "runs/desk-universality")]
        run: PathBuf,
        /// Folders of runs of other kinds with the same reference model.
        #[arg(long, value_name = "FOLDER", num_args = 1..)]
        with: Vec<PathBuf>,
        /// List the paper's figures: what is drawn of each, from which run, or why not.
        #[arg(long)]
        paper: bool,
        /// The file to write [default: report.html in the run's folder].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write a commented experiment file to start from, in any folder.
    New {
        /// Kind of the experiment.
        #[arg(value_parser = PossibleValuesParser::new(KINDS.map(|kind| kind.rules.name)))]
        kind: String,
        /// The file to write [default: my-KIND.yaml, in experiments/ if that is a folder here].
        file: Option<PathBuf>,
    },
    /// Convert a model's weights from any supported format to one file of safetensors.
    Convert {
        /// Folder of the model.
        from: PathBuf,
        /// Folder to write to; the config and the tokenizer are copied too.
        to: PathBuf,
    },
    /// Check how exact a model's forward pass is, point by point.
    ///
    /// Compares activations and logits with a plain forward pass in f64, with the model's own weights
    /// and after each preprocessing step that should change nothing. Exits with 1 if a difference is
    /// larger than rounding explains.
    CheckModel {
        /// Folder of the model.
        folder: PathBuf,
        /// Compare with the activations in this file instead: safetensors with `tokens` and hooks,
        /// such as `blocks.0.mlp.hook_post`, of one row of tokens.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Largest difference from the file, as a share of the largest value of the same point.
        #[arg(long, value_name = "SHARE", default_value_t = 1e-3)]
        tolerance: f64,
        /// Print the differences as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of an experiment file, for editors.
    Schema,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// The evidence that can be fetched.
#[derive(Debug, Subcommand)]
pub enum FetchTarget {
    /// The authors' tables of neurons, at the pinned commit, checked byte for byte.
    ///
    /// An interrupted fetch continues where it stopped. Proxies are taken from
    /// HTTPS_PROXY and ALL_PROXY.
    Tables {
        /// Folder to write the tables to; set UNIVERSAL_NEURONS_DATA to it afterwards.
        #[arg(long, value_name = "FOLDER", default_value = "published")]
        to: PathBuf,
        /// Address of a mirror to use instead of the authors' repository.
        #[arg(long, value_name = "URL")]
        base: Option<String>,
    },
    /// A model from the Hugging Face hub, at one commit, checked by its digests.
    ///
    /// HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are respected. A cache that the hub's own
    /// tools have filled (HF_HUB_CACHE, HF_HOME) is read, but never written.
    Model {
        /// A model of the papers, such as stanford-gpt2-small-a, or owner/repository.
        name: String,
        /// A commit, branch or tag; the commit that it names is recorded [default: the pinned
        /// commit, or the commit of `main` if none is pinned].
        #[arg(long, value_name = "REVISION")]
        revision: Option<String>,
        /// Folder to write the model to [default: models/NAME].
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

/// A text that a neuron reads.
#[derive(Debug, Clone, Default, Args)]
pub struct TextOptions {
    /// Show the neuron's activation at each token of this text.
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub text: Option<String>,
    /// The same for the text in a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Show what the prediction of the text becomes without these neurons.
    #[arg(long, value_name = "NEURON", num_args = 1..)]
    pub without: Vec<NeuronId>,
    /// When to colour tokens by activation.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Colours::Auto)]
    pub color: Colours,
}

/// When to colour output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colours {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to run an experiment. No option can change a number.
#[derive(Debug, Clone, Default, Args)]
pub struct RunOptions {
    /// Folder for the results [default: runs/NAME, NAME as in the experiment].
    ///
    /// An earlier run there is replaced, but only if that run's files are unchanged and there
    /// are no others. The current folder and mount points are refused.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Number of threads [default: all cores]; at most 4 per core, or 64 if that is more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// The device that multiplies: `auto`, `cpu`, `cuda`, or NVIDIA cards, `cuda:all` or `cuda:0,1`
    /// [default: that of the experiment, or else `auto`].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Take the universal neurons from the run in this folder if the experiment needs
    /// them, instead of finding them first.
    #[arg(long, value_name = "FOLDER")]
    pub universal: Option<PathBuf>,
    /// Show what the run would cost, without running it.
    #[arg(long)]
    pub dry_run: bool,
    /// Save the sums every SECONDS seconds and on an interrupt, in FOLDER.checkpoint.
    ///
    /// The checkpoint is removed when the results are on disk. A checkpoint of an earlier run
    /// is not replaced: continue it with --resume, or remove it.
    #[arg(long, value_name = "SECONDS")]
    pub checkpoint: Option<u64>,
    /// Resume an interrupted run from its checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Sum only share I of N of the tokens, into FOLDER.shard-I-of-N, for `merge`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Run as a rank of an MPI job: each rank sums a share, and the first merges them.
    #[cfg(feature = "mpi")]
    #[arg(long, conflicts_with_all = ["shard", "dry_run", "universal"])]
    pub mpi: bool,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
    /// Print the results, the cost of a dry run or the file of a share as JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Which claims to judge, and where to write the ledger in addition to the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyOptions {
    /// Judge only on this tier of evidence.
    #[arg(long)]
    pub tier: Option<Tier>,
    /// Judge only on this run: as evidence about an original model if its reference has
    /// the name of one, otherwise instead of the bundled models.
    #[arg(long, value_name = "FOLDER", conflicts_with = "tier")]
    pub run: Option<PathBuf>,
    /// Judge the claims in this file instead of those of the papers. With --run, judges those
    /// of tier `run`.
    #[arg(long, value_name = "FILE")]
    pub claims: Option<PathBuf>,
    /// Exit with 1 if any claim fails or is undecided, even if this is recorded.
    #[arg(long)]
    pub strict: bool,
    /// Exit with 2 if a claim of one of these tiers, or one of these claims, is not run.
    #[arg(long, value_name = "TIER|ID", value_delimiter = ',')]
    pub require: Vec<String>,
    /// Write the ledger as JSON; `-` prints it instead of the text.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the ledger as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the ledger as a Markdown table.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

impl Cli {
    /// Returns the command: `run` on the bundled models if none is given.
    pub fn chosen(self) -> Command {
        let run = Command::Run { spec: DEFAULT_SPEC.into(), options: self.run };
        self.command.unwrap_or(run)
    }
}
