//! `check`: every event with the hook it got, why not a better one, what that cannot see, and the account of a trial
//! run. Not the probing. It may call `kernel` and the account.

use super::EXIT_TROUBLE;
use crate::account::Row;
use crate::kernel::limits::LimitStatus;
use crate::kernel::{CheckReport, HookState, check};
use anyhow::Context as _;
use std::io::Write as _;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let report = check();
    let text = if arguments.json {
        serde_json::to_string(&report).context("cannot make JSON of the report")? + "\n"
    } else {
        table(&report)
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    if let Some(error) = &report.error {
        say!("sensor-agent: {error}");
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_TROUBLE) })
}

fn table(report: &CheckReport) -> String {
    let mut text = format!("kernel {}, programs {}\n", report.kernel, report.object);
    if let Some(modules) = &report.security_modules {
        text += &format!("security modules {}\n", modules.trim());
    }
    let width = report.hooks.iter().map(|hook| hook.hook.len()).max().unwrap_or(0);
    for hook in &report.hooks {
        let need = if hook.required { "required" } else { "optional" };
        let state = match &hook.state {
            HookState::Attached => "attached".to_owned(),
            HookState::Failed(reason) => format!("failed: {reason}"),
        };
        let (event, name, tier) = (hook.event, &hook.hook, hook.tier);
        let line = format!("{event:<14} {tier:<10} {name:<width$} {need} {state}");
        text += line.trim_end();
        if !hook.why_not_better.is_empty() {
            text += &format!("; not better: {}", hook.why_not_better);
        }
        text.push('\n');
    }
    text + &limits(&report.limits) + &account(report)
}

/// What is not seen, each with the events it is true of.
fn limits(limits: &[LimitStatus]) -> String {
    let mut events: Vec<(&str, Vec<&str>)> = Vec::new();
    for limit in limits {
        match events.iter_mut().find(|(what, _)| *what == limit.what) {
            Some((_, names)) => names.push(limit.event),
            None => events.push((limit.what, vec![limit.event])),
        }
    }
    let mut text = String::new();
    for (what, names) in events {
        text += &format!("cannot see: {}: {what}\n", names.join(", "));
    }
    text
}

/// What became of the records of the trial run.
fn account(report: &CheckReport) -> String {
    let Some(account) = &report.account else { return String::new() };
    let mut text = String::new();
    for row in account.rows() {
        let Row { kind, seen, delivered, cached, .. } = row;
        let lost = row.lost_total();
        text += &format!(
            "account {} seen={seen} delivered={delivered} cached={cached} lost={lost}\n",
            kind.name()
        );
    }
    for imbalance in &report.imbalances {
        text += &format!("account wrong: {imbalance}\n");
    }
    text
}
