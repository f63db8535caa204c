//! The current baseline of each fleet, for the control streams that wait for the next one. It is not their store and
//! reads no YAML. It may call tokio's watch channel only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::identity::secret::Sha256Hash;
use crate::store::baselines::BaselineRow;

/// A baseline to hand to agents.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its version in its fleet.
    pub version: u64,
    /// Of the text.
    pub sha256: Sha256Hash,
    /// baseline.yaml.
    pub yaml: String,
}

impl From<BaselineRow> for Offer {
    fn from(row: BaselineRow) -> Self {
        Self { version: row.version, sha256: row.sha256, yaml: row.yaml }
    }
}

type Current = watch::Sender<Option<Arc<Offer>>>;

/// The newest offer of every fleet.
#[derive(Default)]
pub struct Offers {
    fleets: Mutex<BTreeMap<String, Current>>,
}

impl Offers {
    /// Makes an offer the fleet's current one, unless it has a newer one already: two pushes may arrive here in the
    /// other order than they were stored in.
    pub fn publish(&self, fleet: &str, offer: Offer) {
        self.lock().entry(fleet.to_owned()).or_default().send_if_modified(|current| {
            let is_newer = current.as_ref().is_none_or(|current| current.version < offer.version);
            if is_newer {
                *current = Some(Arc::new(offer));
            }
            is_newer
        });
    }

    /// The fleet's current offer and every later one.
    pub fn subscribe(&self, fleet: &str) -> watch::Receiver<Option<Arc<Offer>>> {
        self.lock().entry(fleet.to_owned()).or_default().subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Current>> {
        self.fleets.lock().expect("no code panics while it holds the offers")
    }
}

#[cfg(test)]
mod tests {
    use super::{Offer, Offers};
    use crate::identity::secret::Sha256Hash;

    fn offer(version: u64) -> Offer {
        Offer { version, sha256: Sha256Hash::of(&version.to_le_bytes()), yaml: String::new() }
    }

    #[test]
    fn a_late_older_version_does_not_replace_a_newer_one() {
        let offers = Offers::default();
        let mut seen = offers.subscribe("web");
        offers.publish("web", offer(2));
        offers.publish("web", offer(1));
        assert_eq!(seen.borrow_and_update().as_ref().map(|offer| offer.version), Some(2));
        assert!(!seen.has_changed().unwrap());
    }

    #[test]
    fn fleets_do_not_see_each_other() {
        let offers = Offers::default();
        let seen = offers.subscribe("web");
        offers.publish("db", offer(1));
        assert!(seen.borrow().is_none());
    }
}
