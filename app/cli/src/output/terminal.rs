//! A terminal: lines that stay, and one progress bar below them.

use std::io;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::event::Event;
use super::{Renderer, clean, human, plain};

/// How often the bar is drawn, at most.
const DRAWS_PER_SECOND: u8 = 10;

/// Writes lines to standard output and draws the bar on standard error.
pub(super) struct Terminal {
    colour: bool,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(super) const fn new(colour: bool) -> Terminal {
        Terminal { colour, bar: None }
    }

    fn draw(&mut self, event: &Event) {
        let Some(amount) = event.amount() else { return };
        let bar = self.bar.get_or_insert_with(bar);
        bar.set_message(clean(&human::beside_bar(event)).into_owned());
        bar.set_length(amount.total.max(1));
        // Nothing of nothing is everything.
        bar.set_position(if amount.total == 0 { 1 } else { amount.done });
    }
}

fn bar() -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(1), target);
    let style = ProgressStyle::with_template("[{bar:16}] {percent:>3}%  {wide_msg}");
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

impl Renderer for Terminal {
    fn show(&mut self, event: &Event) -> io::Result<()> {
        if event.is_progress() {
            self.draw(event);
            return Ok(());
        }
        match &self.bar {
            Some(bar) if event.ends_progress() => {
                bar.finish_and_clear();
                self.bar = None;
                plain::write_lines(event, self.colour)
            }
            Some(bar) => bar.suspend(|| plain::write_lines(event, self.colour)),
            None => plain::write_lines(event, self.colour),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
