//! How much files are wanted, on the command line.

use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser};
use shoal_node::message::{FilesPriority, Prioritize, Priority};
use shoal_node::values;

use super::super::{Selection, StateArgs};

/// Say how much files of torrents of the running node are wanted, and in which order
///
/// What is skipped is not fetched, and is served where it is there. It holds at once, and stays.
#[derive(Debug, Args)]
pub(crate) struct PriorityArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT")]
    torrents: String,
    /// Files, by their numbers in `shoal show`, such as 1,3-5
    #[arg(
        value_name = "FILES",
        requires = "priority",
        required_unless_present_any = ["sequential", "first_last"]
    )]
    files: Option<Selection>,
    /// How much they are wanted: skip, normal, high or highest
    #[arg(value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Whether pieces are fetched from the beginning to the end
    #[arg(long, value_name = "on|off", value_parser = switch())]
    sequential: Option<bool>,
    /// Whether the first and last pieces of each file come first
    #[arg(long, value_name = "on|off", value_parser = switch())]
    first_last: Option<bool>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

impl PriorityArgs {
    /// What is said.
    pub(crate) fn told(&self) -> Prioritize {
        let files = self.files.as_ref().zip(self.priority);
        let files = files.map(|(files, priority)| files.told(priority));
        Prioritize {
            torrents: vec![self.torrents.clone()],
            files: files.unwrap_or_default(),
            sequential: self.sequential,
            first_last: self.first_last,
        }
    }
}

/// `on` or `off`.
pub(super) fn switch() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).try_map(|text| values::parse_switch(&text))
}

/// Files and how much they are wanted, as `--priority` takes them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted(pub(crate) Vec<FilesPriority>);

/// `1,3-5=high`.
pub(super) fn parse_wanted(text: &str) -> Result<Wanted, String> {
    let Some((files, priority)) = text.split_once('=') else {
        return Err("write files and how much they are wanted, such as 1,3-5=high".to_owned());
    };
    let files: Selection = files.parse()?;
    Ok(Wanted(files.told(priority.parse()?)))
}
