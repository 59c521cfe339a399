//! What is asked of a node about the hours of the week.
//!
//! Invariant: what a span of time is, and what its rates may be, is decided by the node alone.

use clap::{Args, Subcommand, ValueEnum};
use shoal_node::message::{Holds, Now, Span};

use crate::args::StateArgs;

/// Say what holds for all of the running node at which hours
///
/// By the clock on the wall. Where spans overlap, the one that was added last counts.
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    pub(crate) does: Option<ScheduleDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with the schedule.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleDo {
    /// Show it, and what holds
    List,
    /// Add a span, in which the alternative rates of `shoal limit session` hold unless it has others
    Add(SpanArgs),
    /// Remove spans
    Rm {
        /// Their numbers
        #[arg(value_name = "N", required = true)]
        spans: Vec<usize>,
    },
    /// Say what holds whatever the hour is, until told otherwise
    Now {
        /// What
        #[arg(value_name = "WHAT", value_enum)]
        now: WhateverTheHour,
    },
}

/// A span of the week.
#[derive(Debug, Args)]
pub(crate) struct SpanArgs {
    /// Days, every one where none is named, and times, such as 08:00-18:00, mon-fri 08:00-18:00 or sat,sun 20:00-02:00
    #[arg(value_name = "[DAYS] TIME-TIME", required = true, num_args = 1..=2)]
    times: Vec<String>,
    /// The most bytes a second from peers in it, such as 500K, or `none`
    #[arg(long, value_name = "RATE")]
    down: Option<String>,
    /// The most bytes a second to peers in it
    #[arg(long, value_name = "RATE")]
    up: Option<String>,
    /// The rates of the session hold in it, as an exception to a span that was added before
    #[arg(long, conflicts_with_all = ["down", "up"])]
    normal: bool,
    /// Nothing moves in it
    #[arg(long, conflicts_with_all = ["down", "up", "normal"])]
    pause: bool,
}

impl SpanArgs {
    /// What is said.
    pub(crate) fn span(self) -> Span {
        let has_rates = self.down.is_some() || self.up.is_some();
        Span {
            times: self.times.join(" "),
            holds: match (self.pause, self.normal, has_rates) {
                (true, ..) => Holds::Pause,
                (_, true, _) => Holds::Normal,
                (_, _, true) => Holds::Rates,
                _ => Holds::Alternative,
            },
            down: self.down,
            up: self.up,
        }
    }
}

/// What a person wants whatever the hour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhateverTheHour {
    /// What the spans say
    Auto,
    /// The rates of the session
    Normal,
    /// Its alternative rates
    Alternative,
}

impl From<WhateverTheHour> for Now {
    fn from(now: WhateverTheHour) -> Now {
        match now {
            WhateverTheHour::Auto => Now::Auto,
            WhateverTheHour::Normal => Now::Normal,
            WhateverTheHour::Alternative => Now::Alternative,
        }
    }
}
