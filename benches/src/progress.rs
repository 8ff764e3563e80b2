//! How far it is, on standard error, where somebody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::compare::Progress;

/// A bar on standard error if that is a terminal, and nothing otherwise. It draws only when told of
/// a run, from the thread that tells: a bar that moves by itself would run beside what is measured.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar; a `quiet` one draws nothing anywhere.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            // indicatif hides this where standard error is no terminal.
            ProgressDrawTarget::stderr()
        };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {eta:>4}  {msg}");
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// Shows a run that is about to begin.
    pub fn show(&self, progress: Progress<'_>) {
        // Nothing of an unknown number, not all of none.
        self.0.set_length(progress.total.max(1) as u64);
        self.0.set_position(progress.done as u64);
        let (workload, contender) = (progress.workload, progress.contender);
        self.0.set_message(format!("{workload} under {contender}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
