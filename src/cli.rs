//! The command line, as types. What each command does is in `main.rs`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::claims::Tier;
use crate::experiment::KINDS;
use crate::run::Shard;
use crate::spec::DeviceChoice;
use crate::table::NeuronId;

/// What is run when no experiment is named.
pub const DEFAULT_SPEC: &str = "experiments/desk-universality.yaml";

/// Are the same neurons found again in a model trained from another seed?
///
/// Without a command, runs the experiment on the bundled models.
///
/// Exit codes: 0 where all claims that ran hold, 1 where one fails, 2 where
/// something could not run.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, for use without a command.
    #[command(flatten)]
    pub run: RunOptions,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment and write its tables.
    Run {
        /// The experiment file.
        #[arg(default_value = DEFAULT_SPEC)]
        spec: PathBuf,
        /// How to run it.
        #[command(flatten)]
        options: RunOptions,
    },
    /// Add the shares of a run that `run --shard` summed, and write its tables.
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
    },
    /// Check experiment files, and everything they refer to, without running them.
    Validate {
        /// The experiment files.
        #[arg(required = true)]
        specs: Vec<PathBuf>,
    },
    /// Judge the claims of the papers on the evidence that is here.
    ///
    /// The bundled models are run; the authors' tables are looked for in the
    /// folder that UNIVERSAL_NEURONS_DATA names.
    Verify(VerifyOptions),
    /// Show a neuron: its row with percentiles, partners, tokens and contexts.
    Inspect {
        /// The neuron, as in L0.N12.
        neuron: NeuronId,
        /// Folder of a run.
        #[arg(long, value_name = "FOLDER", default_value = "runs/desk-universality")]
        run: PathBuf,
        /// The experiment that the run was made with.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_SPEC)]
        spec: PathBuf,
    },
    /// Write what some neurons do at every token, as safetensors.
    Activations {
        /// The neurons, as in L0.N12.
        #[arg(required = true)]
        neurons: Vec<NeuronId>,
        /// The experiment; its reference model reads its text.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_SPEC)]
        spec: PathBuf,
        /// Where it is written.
        #[arg(long, value_name = "FILE", default_value = "activations.safetensors")]
        out: PathBuf,
    },
    /// Tell what moved from one run to another; ends with 1 where a verdict changed.
    Compare {
        /// Folder of a run.
        first: PathBuf,
        /// Folder of another, with the same reference model.
        second: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch evidence from its public home.
    Fetch {
        /// What to fetch.
        #[command(subcommand)]
        what: FetchTarget,
    },
    /// Measure how close the products and the forward pass come to what this machine can do.
    BenchHost {
        /// Print the rates as JSON.
        #[arg(long)]
        json: bool,
        /// Run a study of five models of 12,288 neurons too.
        #[arg(long)]
        study: bool,
        /// End with 1 where a fraction lies below the one in this file.
        #[arg(long, value_name = "FILE")]
        floors: Option<PathBuf>,
    },
    /// Make the report of a run again, with experiments of other kinds on the same page.
    Report {
        /// Folder of a run.
        #[arg(default_value = "runs/desk-universality")]
        run: PathBuf,
        /// Folders of runs of other kinds with the same reference model.
        #[arg(long, value_name = "FOLDER", num_args = 1..)]
        with: Vec<PathBuf>,
        /// Where the page is written [default: report.html in the run's folder].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write a commented experiment file to begin with.
    New {
        /// Kind of the experiment.
        #[arg(value_parser = PossibleValuesParser::new(KINDS.map(|kind| kind.rules.name)))]
        kind: String,
        /// Where it is written [default: experiments/my-KIND.yaml].
        file: Option<PathBuf>,
    },
    /// Write a model's weights as one file of safetensors, whichever format they are in.
    Convert {
        /// Folder of the model.
        from: PathBuf,
        /// Folder to write to; config and tokenizer are copied too.
        to: PathBuf,
    },
    /// Print the JSON Schema of an experiment file, for editors.
    Schema,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// What can be fetched.
#[derive(Debug, Subcommand)]
pub enum FetchTarget {
    /// The authors' tables of neurons, at the pinned commit, checked byte for byte.
    ///
    /// An interrupted fetch goes on where it stopped. Proxies are taken from
    /// HTTPS_PROXY and ALL_PROXY.
    Tables {
        /// Folder to put them into; name it in UNIVERSAL_NEURONS_DATA afterwards.
        #[arg(long, value_name = "FOLDER", default_value = "published")]
        to: PathBuf,
        /// Address of a mirror, in place of the authors' repository.
        #[arg(long, value_name = "URL")]
        base: Option<String>,
    },
    /// A model from the Hugging Face hub, at one commit, checked by its digests.
    ///
    /// HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are followed; a cache that the hub's own
    /// tools have filled (HF_HUB_CACHE, HF_HOME) is read, and never written.
    Model {
        /// A model of the papers, as stanford-gpt2-small-a, or owner/repository.
        name: String,
        /// A commit, branch or tag; the commit that it is at is recorded [default: the pinned
        /// commit, or else that of `main`].
        #[arg(long, value_name = "REVISION")]
        revision: Option<String>,
        /// Folder to put it into [default: models/NAME].
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

/// How to run an experiment; nothing here can change a number.
#[derive(Debug, Clone, Default, Args)]
pub struct RunOptions {
    /// Folder for the results [default: runs/NAME, NAME as in the experiment].
    ///
    /// An earlier run there is replaced, but only if all files in the folder are as that
    /// run left them. The folder that the program runs in and mount points are refused.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Threads to use [default: all cores]; at most 4 for each core, or 64.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// What multiplies [default: what the experiment says, or else `auto`].
    #[arg(long, value_enum, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Take the universal neurons from this run's folder, where an experiment needs
    /// them, instead of finding them first.
    #[arg(long, value_name = "FOLDER")]
    pub universal: Option<PathBuf>,
    /// Tell what the run would cost, and do not run.
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the sums every SECONDS seconds and on an interrupt, in FOLDER.checkpoint.
    ///
    /// The checkpoint is removed when the results are on the disk. One of an earlier run is
    /// not replaced: go on from it with --resume, or remove it.
    #[arg(long, value_name = "SECONDS")]
    pub checkpoint: Option<u64>,
    /// Go on from the checkpoint of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Sum one share of the tokens alone, into FOLDER.shard-I-of-N, for `merge`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// As a rank of an MPI job: sum a share of the tokens; the first rank merges them.
    #[cfg(feature = "mpi")]
    #[arg(long, conflicts_with_all = ["shard", "dry_run", "universal"])]
    pub mpi: bool,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
    /// Print what was found as JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Which claims to judge, and where to write the ledger beside the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyOptions {
    /// Judge on this tier of evidence alone.
    #[arg(long)]
    pub tier: Option<Tier>,
    /// Judge on this run alone: of the original models where its reference is called like
    /// one, else in place of the bundled ones.
    #[arg(long, value_name = "FOLDER", conflicts_with = "tier")]
    pub run: Option<PathBuf>,
    /// End with 1 if any claim fails, even if its failure is recorded.
    #[arg(long)]
    pub strict: bool,
    /// End with 2 if a claim of one of these tiers, or one of these claims, is not run.
    #[arg(long, value_name = "TIER|ID", value_delimiter = ',')]
    pub require: Vec<String>,
    /// Write the ledger as JSON.
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
    /// The command, `run` on the bundled models where none is given.
    pub fn chosen(self) -> Command {
        let run = Command::Run { spec: DEFAULT_SPEC.into(), options: self.run };
        self.command.unwrap_or(run)
    }
}
