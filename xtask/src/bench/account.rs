//! The account that an agent logs when it ends: what became of every record, by kind. Not the counting. Pure: JSON in,
//! numbers out.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// One kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seen: u64,
    pub(super) cached: u64,
    pub(super) lost: u64,
    /// What is none of the three: nothing, when the account adds up.
    pub(super) unaccounted: i64,
}

/// Of one agent's life, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account(BTreeMap<String, Row>);

impl Account {
    /// The last one in a log.
    pub(super) fn of_log(log: &str) -> Result<Self> {
        let line = log.lines().rev().find_map(|line| line.split_once("account {"));
        let (_, rest) = line.context("the agent has logged no account")?;
        let json: Value = serde_json::from_str(&format!("{{{rest}")).context("the agent's account")?;
        let kinds = json.as_object().context("the account is no object")?;
        let rows = kinds.iter().map(|(kind, row)| {
            let number = |name: &str| row[name].as_u64().with_context(|| format!("{kind}: no {name}"));
            let lost = row["lost"].as_object().with_context(|| format!("{kind}: no lost"))?;
            let unaccounted = row["in_flight"].as_i64().with_context(|| format!("{kind}: no in_flight"))?;
            let lost = lost.values().filter_map(Value::as_u64).sum();
            let row = Row {
                seen: number("seen")?,
                cached: number("cached")?,
                lost,
                unaccounted: unaccounted.abs(),
            };
            Ok((kind.clone(), row))
        });
        Ok(Self(rows.collect::<Result<_>>()?))
    }

    /// Adds that of another life.
    pub(super) fn add(&mut self, other: &Self) {
        for (kind, row) in &other.0 {
            let sum = self.0.entry(kind.clone()).or_default();
            sum.seen += row.seen;
            sum.cached += row.cached;
            sum.lost += row.lost;
            sum.unaccounted += row.unaccounted;
        }
    }

    /// What was seen of a kind.
    pub(super) fn seen(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |row| row.seen)
    }

    /// What was seen of all kinds, but for the processes that were there at the start.
    pub(super) fn events(&self) -> u64 {
        self.0.iter().filter(|(kind, _)| *kind != "process").map(|(_, row)| row.seen).sum()
    }

    /// Of these, whose verdict the kernel knew.
    pub(super) fn cached(&self) -> u64 {
        self.0.values().map(|row| row.cached).sum()
    }

    /// What was lost of some kinds.
    pub(super) fn lost_of(&self, kinds: &[&str]) -> u64 {
        kinds.iter().filter_map(|kind| self.0.get(*kind)).map(|row| row.lost).sum()
    }

    /// Of all kinds.
    pub(super) fn lost(&self) -> u64 {
        self.0.values().map(|row| row.lost).sum()
    }

    /// Kinds that do not add up.
    pub(super) fn wrong(&self) -> impl Iterator<Item = (&str, i64)> {
        let rows = self.0.iter().filter(|(_, row)| row.unaccounted != 0);
        rows.map(|(kind, row)| (kind.as_str(), row.unaccounted))
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    const LOG: &str = "2026 INFO account {\"exec\":{\"seen\":1,\"cached\":0,\"lost\":{},\"in_flight\":0}}\n\
        2026 INFO account {\"process\":{\"seen\":9,\"delivered\":9,\"cached\":0,\"lost\":{},\"in_flight\":0},\
        \"file_open\":{\"seen\":7,\"delivered\":1,\"cached\":2,\"lost\":{\"ring_full\":3,\"fault\":1},\"in_flight\":0}}\n\
        2026 INFO ended\n";

    #[test]
    fn last_account_of_a_log_counts() {
        let account = Account::of_log(LOG).unwrap();
        assert_eq!((account.events(), account.cached(), account.lost()), (7, 2, 4));
        assert_eq!((account.seen("file_open"), account.seen("exec")), (7, 0));
        assert_eq!(account.wrong().count(), 0);
    }

    #[test]
    fn what_does_not_add_up_in_one_life_does_not_in_two() {
        let wrong = |left: i64| {
            let log = format!(
                "account {{\"exec\":{{\"seen\":1,\"cached\":0,\"lost\":{{}},\"in_flight\":{left}}}}}"
            );
            Account::of_log(&log).unwrap()
        };
        let mut sum = wrong(-1);
        sum.add(&wrong(1));
        assert_eq!(sum.wrong().collect::<Vec<_>>(), [("exec", 2)]);
    }

    #[test]
    fn a_log_without_an_account_is_an_error() {
        for log in ["", "account {broken", "account {\"exec\":{}}"] {
            assert!(Account::of_log(log).is_err(), "{log}");
        }
    }
}
