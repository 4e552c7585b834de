//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::tell;
use crate::printable;

/// Seconds between lines if standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where progress is shown.
#[derive(Default)]
pub enum Progress {
    /// No progress is shown.
    #[default]
    Quiet,
    /// A bar on a terminal.
    Bar(RefCell<ProgressBar>),
    /// Lines on standard error at regular intervals.
    Lines(RefCell<Stage>),
}

/// A stage whose steps are counted.
pub struct Stage {
    name: String,
    done: u64,
    total: u64,
    since: Instant,
    last_line: Instant,
}

impl Progress {
    /// Returns a bar if standard error is a terminal, otherwise lines.
    pub fn on_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bar(RefCell::new(ProgressBar::hidden()))
        } else {
            Self::Lines(RefCell::new(Stage::new("", 0)))
        }
    }

    /// Prints a message on a line of its own, if progress is shown.
    pub fn say(&self, line: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.borrow().suspend(|| tell(line)),
            Self::Lines(_) => tell(line),
        }
    }

    /// Prints a warning on a line of its own, even if no progress is shown.
    pub fn warn(&self, warning: &str) {
        match self {
            Self::Quiet => tell(format_args!("warning: {warning}")),
            Self::Bar(_) | Self::Lines(_) => self.say(&format!("warning: {warning}")),
        }
    }

    /// Begins a stage of `total` steps.
    pub fn stage(&self, name: &str, total: u64) {
        let name = &printable::line(name);
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                bar.borrow().finish_and_clear();
                *bar.borrow_mut() = new_bar(name, total);
            }
            Self::Lines(stage) => {
                *stage.borrow_mut() = Stage::new(name, total);
                tell(format_args!("{name} …"));
            }
        }
    }

    /// Marks `steps` more steps of the stage as done.
    pub fn advance(&self, steps: u64) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.borrow().inc(steps),
            Self::Lines(stage) => stage.borrow_mut().advance(steps),
        }
    }

    /// Ends the last stage.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.borrow().finish_and_clear();
        }
    }
}

fn new_bar(name: &str, total: u64) -> ProgressBar {
    let template = "{prefix} {bar:30} {percent:>3} % · {per_sec} · {eta} left";
    // If the constant template is ever invalid, the default style is used.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_prefix(name.to_string())
}

impl Stage {
    fn new(name: &str, total: u64) -> Self {
        let now = Instant::now();
        Self { name: name.to_string(), done: 0, total, since: now, last_line: now }
    }

    fn advance(&mut self, steps: u64) {
        self.done += steps;
        if self.last_line.elapsed() < LINE_EVERY || self.done == 0 {
            return;
        }
        self.last_line = Instant::now();
        let rate = self.done as f64 / self.since.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(self.done) as f64 / rate;
        let percent = 100 * self.done / self.total.max(1);
        tell(format_args!("{}: {percent} %, {rate:.0}/s, {left:.0} s left", self.name));
    }
}
