//! `sigma`: which Sigma rules can be put in force. And what the subcommands that find something take rules from. Not the
//! rules. It may call `sigma`.

use crate::floor_files;
use crate::sigma::{Category, Loaded, Rules, load};
use anyhow::Context as _;
use clap::Subcommand;
use sensor_baseline::{Floor, Severity};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Subcommand)]
pub(super) enum SigmaCommand {
    /// Say which rules can be put in force, and why the others cannot: exit 0 when all can, 2 when some cannot.
    Check(CheckArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Folders of rules.
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// The least level of a rule.
    #[arg(long, value_name = "LEVEL", default_value = "medium", value_parser = parse_level)]
    level_min: Severity,
}

#[derive(Debug, clap::Args)]
pub(super) struct SigmaArguments {
    /// Also find what the Sigma rules in this folder match.
    #[arg(long = "sigma", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// The least level of a Sigma rule.
    #[arg(
        long = "sigma-level",
        value_name = "LEVEL",
        default_value = "medium",
        value_parser = parse_level,
        requires = "folders"
    )]
    level_min: Severity,
}

impl SigmaArguments {
    /// Reads the rules, and says what is not in force. A silence of `floor` is of a rule that there is.
    pub(super) fn rules(&self, floor: &Floor) -> anyhow::Result<Arc<Rules>> {
        if self.folders.is_empty() {
            return Ok(Arc::default());
        }
        let loaded = read(&self.folders, self.level_min)?;
        say!("{}", summary(&loaded));
        floor_files::check_sigma(floor, &loaded.rules)?;
        Ok(Arc::new(loaded.rules))
    }
}

pub(super) fn run(command: &SigmaCommand) -> anyhow::Result<ExitCode> {
    let SigmaCommand::Check(arguments) = command;
    let loaded = read(&arguments.folders, arguments.level_min)?;
    std::io::stdout().write_all(listing(&loaded).as_bytes()).context("cannot write to stdout")?;
    Ok(if loaded.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::EXIT_FINDINGS) })
}

fn read(folders: &[PathBuf], level_min: Severity) -> anyhow::Result<Loaded> {
    load(folders, level_min).context("cannot read Sigma rules")
}

/// Every rule: those in force, then those that are not with the reason, then how many there are of each.
fn listing(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (category, rule) in loaded.rules.iter() {
        text += &format!("loaded {} {} {}: {}\n", category.name(), rule.level.name(), rule.id, rule.title);
    }
    for refused in &loaded.refused {
        let title = if refused.title.is_empty() { String::new() } else { format!("{}: ", refused.title) };
        text += &format!("refused {}: {title}{}\n", refused.file.display(), refused.reason);
    }
    text + &summary(loaded) + "\n"
}

fn summary(loaded: &Loaded) -> String {
    let of = |category: Category| format!("{} {}", loaded.rules.count_of(category), category.name());
    format!(
        "{} Sigma rules loaded ({}), {} refused, {} below the level",
        loaded.rules.len(),
        Category::ALL.map(of).join(", "),
        loaded.refused.len(),
        loaded.below_level_count
    )
}

fn parse_level(text: &str) -> Result<Severity, String> {
    let levels =
        [Severity::Informational, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let names = levels.map(Severity::name).join(", ");
    levels.into_iter().find(|level| level.name() == text).ok_or_else(|| format!("not one of {names}"))
}
