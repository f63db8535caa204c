//! What each command asks and prints. Decides nothing: the collector does. May call: `client`, `table`.

mod account;
mod baseline;
mod findings;
mod fleet;
mod incidents;

use anyhow::Result;

use crate::cli::{
    AgentsCommand, Cli, Command, FindingsCommand, FleetsCommand, GapsCommand, IncidentsCommand, TokensCommand,
};
use crate::client::Client;
use crate::config::Config;

/// Runs one command and returns what it prints.
pub(crate) fn run(cli: &Cli) -> Result<String> {
    let client = Client::new(Config::load(cli.config.as_deref())?)?;
    let json = cli.json;
    match &cli.command {
        Command::Findings(FindingsCommand::List(list)) => findings::list(&client, list, json),
        Command::Findings(FindingsCommand::Show { id }) => findings::show(&client, id, json),
        Command::Incidents(IncidentsCommand::List(list)) => incidents::list(&client, list, json),
        Command::Incidents(IncidentsCommand::Show { id }) => incidents::show(&client, id, json),
        Command::Gaps(GapsCommand::List(page)) => findings::gaps(&client, page, json),
        Command::Agents(AgentsCommand::List { fleet }) => fleet::agents(&client, fleet.as_deref(), json),
        Command::Agents(AgentsCommand::Account { fleet }) => {
            account::account(&client, fleet.as_deref(), json)
        }
        Command::Agents(AgentsCommand::Revoke { id }) => fleet::revoke(&client, id, json),
        Command::Fleets(FleetsCommand::List) => fleet::fleets(&client, json),
        Command::Tokens(TokensCommand::Create { fleet, lifetime_hours }) => {
            fleet::create_token(&client, fleet, *lifetime_hours, json)
        }
        Command::Status => fleet::status(&client, json),
        Command::Baseline(command) => baseline::run(&client, command, json),
    }
}
