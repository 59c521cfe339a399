//! What the program says: typed events, shown as JSON lines, plain lines, or lines and a progress bar on a terminal.
//!
//! Invariant: standard output has results and progress only, in one form; logs and error lines go to standard error.

mod clean;
pub(crate) mod event;
mod human;
mod json;
mod plain;
mod terminal;
mod text;

use std::env;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Failure};
use event::{ErrorEvent, Event};

pub(crate) use clean::clean;

/// How the person wants to be spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Format {
    /// JSON lines.
    pub(crate) json: bool,
    /// Only results.
    pub(crate) quiet: bool,
    /// Progress bars, where there is a terminal.
    pub(crate) bars: bool,
}

/// Shows events in one form.
trait Renderer {
    /// Shows one event. Those that come often are shown as often as suits the form.
    fn show(&mut self, event: &Event) -> io::Result<()>;
}

/// Where a command says what it found and how far it is.
pub(crate) struct Output {
    quiet: bool,
    renderer: Box<dyn Renderer>,
}

impl Output {
    /// The form that suits `format` and what the output leads to.
    pub(crate) fn new(format: Format) -> Output {
        let on_terminal = io::stdout().is_terminal();
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = on_terminal && !dumb && !no_colour;
        let bars = on_terminal && !dumb && format.bars && io::stderr().is_terminal();
        let renderer: Box<dyn Renderer> = match (format.json, bars) {
            (true, _) => Box::new(json::Json::default()),
            (false, true) => Box::new(terminal::Terminal::new(colour)),
            (false, false) => Box::new(plain::Plain::new(colour)),
        };
        Output {
            quiet: format.quiet,
            renderer,
        }
    }

    /// Shows an event.
    ///
    /// # Errors
    /// Where nobody reads any more, or the output cannot be written.
    pub(crate) fn show(&mut self, event: &Event) -> Result<(), Failure> {
        if self.quiet && !event.is_result() {
            return Ok(());
        }
        self.renderer
            .show(event)
            .map_err(|error| output_failure(&error))
    }
}

/// Writes text as it is: the manual page, completions.
///
/// # Errors
/// As [`Output::show`].
pub(crate) fn raw(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    written.map_err(|error| output_failure(&error))
}

fn output_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::OutputClosed, "nobody reads the output"),
        _ => Failure::new(
            Exit::Failure,
            format!("cannot write to standard output: {error}; check where it leads"),
        ),
    }
}

/// Says why a command failed: a line on standard error and, in JSON, an object on standard output.
pub(crate) fn fail(format: Format, failure: &Failure) {
    if failure.exit == Exit::OutputClosed {
        return;
    }
    // Whoever cannot be told is not told.
    if format.json {
        let event = Event::Error(ErrorEvent::from(failure));
        drop(Output::new(format).show(&event));
    }
    drop(writeln!(io::stderr(), "error: {}", clean(&failure.message)));
}

/// Writes the log to standard error: `-v` what the program decides, `-vv` what it does. `SHOAL_LOG` overrides both.
pub(crate) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SHOAL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .try_init();
    // The only reason to fail is that it has been started.
    drop(logging);
}
