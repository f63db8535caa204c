//! `check`: every event with the hook it got and why not a better one. Not the probing. It may call `kernel`.

use super::EXIT_TROUBLE;
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
    text
}
