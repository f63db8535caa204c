//! Which rules an event meets, in the terms that rules have for it. Not the rules, and not what follows from a match
//! (`observe`). It may call `event`, `enrich` and `sigma`.

use super::Pipeline;
use crate::enrich::Process;
use crate::event::{Body, Event};
use crate::sigma::{Category, Doing, Facts, Parent, Rule, Rules};
use sensor_baseline::{Explanation, Object, Observation, Severity};
use std::sync::Arc;

/// The first of these that keeps what it matches from being learned, as learners call it.
pub(super) fn hold(rules: &[Arc<Rule>]) -> Option<Arc<str>> {
    let rule = rules.iter().find(|rule| rule.level >= HELD_LEVEL_MIN)?;
    Some(format!("sigma:{}", rule.id).into())
}

/// Whether rules are asked of what the kernel may remember verdicts on: what they say may differ by process and user.
pub(super) fn asks_rules_of_known(rules: &Rules) -> bool {
    rules.has_any(Category::FileEvent) || rules.has_any(Category::NetworkConnection)
}

/// What a rule found, and what the baseline thinks of it. No edit of the baseline silences a rule.
pub(super) fn of_rules(rules: &[Arc<Rule>], of_baseline: Explanation) -> Explanation {
    let mut titles = Vec::new();
    for rule in rules {
        let techniques = if rule.techniques.is_empty() {
            String::new()
        } else {
            format!(" ({})", rule.techniques.join(", "))
        };
        titles.push(format!("{}{techniques}", rule.title));
    }
    let summary = format!("{}; Sigma: {}", of_baseline.summary, titles.join("; "));
    Explanation { summary, edit: String::new(), ..of_baseline }
}

impl Pipeline {
    /// The rules that nobody silenced for what was done, counting the others; and whether a silence stands in for the
    /// entry that one of those keeps from being learned.
    pub(super) fn unsilenced(
        &mut self,
        mut rules: Vec<Arc<Rule>>,
        observation: &Observation,
    ) -> (Vec<Arc<Rule>>, bool) {
        let mut is_excused = false;
        rules.retain(|rule| {
            let Some(silence) = self.config.floor.silence_of_sigma(&rule.id, observation) else {
                return true;
            };
            *self.silenced.entry(rule.id.to_string()).or_default() += 1;
            is_excused |= rule.level >= HELD_LEVEL_MIN && silence.stands_for_an_entry();
            false
        });
        (rules, is_excused)
    }

    /// The rules that an observed event meets, worst first. `process` is the acting one: of an exec, before it.
    pub(super) fn rules_met(
        &self,
        event: &Event,
        process: &Process,
        observation: &Observation,
    ) -> Vec<Arc<Rule>> {
        let rules = &self.config.rules;
        if rules.is_empty() {
            return Vec::new();
        }
        let (mut image, pid, euid) = (process.image.exe.as_str(), process.identity.pid, event.actor.euid);
        let doing = match &event.body {
            Body::Exec(exec) => {
                image = &exec.exe.text;
                let parent = self.processes.parent(process);
                Doing::Exec {
                    argv: &exec.argv,
                    cwd: &exec.cwd.text,
                    login_uid: event.actor.loginuid,
                    parent: parent.map(|parent| Parent {
                        pid: parent.identity.pid,
                        exe: &parent.image.exe,
                        argv: &parent.image.argv,
                    }),
                }
            }
            Body::FileOpen(file) => Doing::File { target: &file.path.text },
            Body::Truncate(name) | Body::Mkdir(name) | Body::Symlink(name) => {
                Doing::File { target: &name.path.text }
            }
            Body::Rename(names) | Body::Link(names) => Doing::File { target: &names.to.text },
            Body::Connect(socket) | Body::Send(socket) => {
                let Object::Endpoint(endpoint) = &observation.behaviour.object else { return Vec::new() };
                Doing::Connection {
                    address: socket.destination,
                    port: socket.destination_port,
                    protocol: endpoint.protocol.name(),
                }
            }
            _ => return Vec::new(),
        };
        rules.met(&Facts::new(pid, euid, image, doing))
    }
}

/// What a rule of this level matches while a workload is learning is not learned.
const HELD_LEVEL_MIN: Severity = Severity::High;
