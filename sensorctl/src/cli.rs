//! The commands and their arguments. Does nothing itself. May call: clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Look at findings and agents, and review and push baselines.
#[derive(Debug, Parser)]
#[command(name = "sensorctl", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the collector is: a file with url, token and ca.
    ///
    /// Without it: $SENSORCTL_CONFIG, else ~/.config/sensor/sensorctl.toml, else
    /// /var/lib/sensor-collector/sensorctl.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the collector's answer as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What agents found.
    #[command(subcommand)]
    Findings(FindingsCommand),
    /// Findings that belong together, as process trees.
    #[command(subcommand)]
    Incidents(IncidentsCommand),
    /// Hosts with an agent.
    #[command(subcommand)]
    Agents(AgentsCommand),
    /// Fleets.
    #[command(subcommand)]
    Fleets(FleetsCommand),
    /// Enrollment tokens.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Baselines of fleets.
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Declared holes: what was lost, where and why.
    #[command(subcommand)]
    Gaps(GapsCommand),
    /// The collector's own counters.
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FindingsCommand {
    /// List findings, that with the newest evidence first.
    List(FindingsList),
    /// Show one finding with process, parents and explanation, and each piece of its evidence.
    Show {
        /// Id of the finding, as `findings list` prints it, or of a piece of its evidence.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum IncidentsCommand {
    /// List incidents, that with the newest finding first.
    List(IncidentsList),
    /// Show one incident: its processes as a tree, and what each did.
    Show {
        /// Id of the incident, as `incidents list` prints it.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IncidentsList {
    /// Only of this fleet.
    #[arg(long)]
    pub(crate) fleet: Option<String>,
    /// Only of the agent with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Of so many newest findings, up to 1000.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) findings: u32,
}

#[derive(Debug, Args)]
pub(crate) struct FindingsList {
    #[command(flatten)]
    pub(crate) page: Page,
    /// Which come first.
    #[arg(long, default_value = "newest")]
    pub(crate) order: Order,
}

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// Only of this fleet.
    #[arg(long)]
    pub(crate) fleet: Option<String>,
    /// Only of the agent with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// At most this many, up to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// Go on behind a page: what it printed as `next`.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Order {
    Newest,
    Oldest,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List agents with their state and losses.
    List {
        /// Only of this fleet.
        #[arg(long)]
        fleet: Option<String>,
    },
    /// What became of every record, by host and kind: seen = delivered + cached + lost + in flight.
    Account {
        /// Only of this fleet.
        #[arg(long)]
        fleet: Option<String>,
    },
    /// End an agent's identity: its streams are cut and it cannot come back without a new token.
    Revoke {
        /// Id of the agent.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum FleetsCommand {
    /// List fleets.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token with which one host joins a fleet; a fleet that does not exist is made.
    Create {
        /// The fleet.
        #[arg(long)]
        fleet: String,
        /// How long it is good; without it what the collector's configuration says.
        #[arg(long, value_name = "HOURS")]
        lifetime_hours: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Get the candidate: what the fleet's hosts learned, with host counts.
    Pull {
        /// The fleet.
        #[arg(long)]
        fleet: String,
        /// Get the baseline in force instead.
        #[arg(long)]
        current: bool,
        /// Get this earlier version instead.
        #[arg(long, value_name = "N", conflicts_with = "current")]
        version: Option<u64>,
        /// Where to write it; without it standard output.
        file: Option<PathBuf>,
    },
    /// Check a baseline, store it as the next version and hand it to the fleet's agents.
    Push {
        /// The fleet.
        #[arg(long)]
        fleet: String,
        /// Refuse when the version in force is another one.
        #[arg(long, value_name = "N")]
        base: Option<u64>,
        /// The file; `-` or nothing is standard input.
        file: Option<PathBuf>,
    },
    /// Compare the baseline in force with a file, or with the candidate.
    Diff {
        /// The fleet.
        #[arg(long)]
        fleet: String,
        /// The file; without it the candidate.
        file: Option<PathBuf>,
    },
    /// Add the smallest entry that allows a finding, or a piece of its evidence, as a new version.
    Approve {
        /// Id of the finding, or of a piece of evidence as `findings show` prints it.
        finding: String,
        /// Of a finding with several behaviours, allow all that it had when `findings show` told this cursor.
        #[arg(long, value_name = "CURSOR", conflicts_with = "one")]
        all: Option<String>,
        /// Allow what the piece of evidence with this id did, also when the id is the finding's as well.
        #[arg(long)]
        one: bool,
    },
    /// How far each workload has been learned, action by action, and what is lacking.
    Maturity {
        /// The fleet.
        #[arg(long)]
        fleet: String,
    },
    /// How far the baseline in force has come on each agent.
    Status {
        /// The fleet.
        #[arg(long)]
        fleet: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GapsCommand {
    /// List gaps, oldest first.
    List(Page),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
