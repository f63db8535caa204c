//! The baseline in force and the last good one on disk. Not judging: it hands a baseline to the drain thread and waits
//! until it is used. It may call the file system and channels.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use sensor_baseline::{Baseline, Layers};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::layer_files::LocalLayers;
use crate::state_dir::write_private;
use crate::uplink::control::Offer;

/// A baseline on its way to the drain thread, which answers when it judges by it.
pub struct Handover {
    /// The collector's baseline among this host's layers.
    pub layers: Layers,
    /// Answered once it is in force.
    pub in_force: Sender<()>,
}

/// Which baseline is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Its version in the fleet, 0 for none or when it is not known.
    pub version: u64,
    /// Hash of its text; `None` when there is no baseline.
    pub sha256: Option<[u8; 32]>,
}

/// Takes baselines, one at a time.
pub struct BaselineKeeper {
    text_file: PathBuf,
    meta_file: PathBuf,
    /// What the collector's baseline stands between.
    local: LocalLayers,
    handovers: Sender<Handover>,
    state: Mutex<State>,
    /// How many offers there were.
    offers: AtomicU64,
    /// The newest offer that was taken up; held while a baseline is applied and kept.
    taken: Mutex<Ticket>,
}

/// Place of an offer among all: a later one replaces an earlier one, whichever thread comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Default)]
struct State {
    in_force: InForce,
    trouble: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u64,
    sha256: String,
}

impl BaselineKeeper {
    /// Reads the last good baseline. One that cannot be read is no reason not to start: it is trouble that the
    /// heartbeat shows, and the collector offers the baseline again.
    #[must_use]
    pub fn start(
        text_file: PathBuf,
        meta_file: PathBuf,
        local: LocalLayers,
    ) -> (Self, Option<Layers>, Receiver<Handover>) {
        let (handovers, received) = crossbeam_channel::bounded(1);
        let keeper = Self {
            text_file,
            meta_file,
            local,
            handovers,
            state: Mutex::default(),
            offers: AtomicU64::new(0),
            taken: Mutex::default(),
        };
        let baseline = match std::fs::read_to_string(&keeper.text_file) {
            Ok(text) => keeper.restore(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                keeper.note(format!("{}: {error}", keeper.text_file.display()));
                None
            }
        };
        let layers = keeper.local.around(baseline);
        (keeper, layers, received)
    }

    fn restore(&self, text: &str) -> Option<Baseline> {
        let mut baseline = match Baseline::parse(text) {
            Ok(baseline) => baseline,
            Err(error) => {
                self.note(format!("{}: {error}", self.text_file.display()));
                return None;
            }
        };
        let sha256: [u8; 32] = Sha256::digest(text).into();
        let meta = std::fs::read_to_string(&self.meta_file).ok();
        let meta: Option<Meta> = meta.and_then(|meta| toml::from_str(&meta).ok());
        // The text counts; a version that belongs to another text does not.
        let version = meta.filter(|meta| meta.sha256 == hex(&sha256)).map_or(0, |meta| meta.version);
        baseline.version = Some(version);
        self.lock().in_force = InForce { version, sha256: Some(sha256) };
        Some(baseline)
    }

    /// Notes that an offer has come; called in the order of the offers.
    #[must_use]
    pub fn announce(&self) -> Ticket {
        Ticket(self.offers.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Parses, applies and keeps an offer, one at a time, and none after a later one. Applying what is in force already is a success.
    ///
    /// # Errors
    /// Why it is not in force. That the disk does not take it is not among the reasons: it is in force until the
    /// agent restarts, and [`BaselineKeeper::trouble`] says so.
    pub fn take(&self, ticket: Ticket, offer: &Offer) -> Result<(), String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if ticket < *taken {
            return Err("a later baseline was offered meanwhile".to_owned());
        }
        *taken = ticket;
        let offered = InForce { version: offer.version, sha256: Some(offer.sha256) };
        if self.in_force() == offered {
            return Ok(());
        }
        let mut baseline = Baseline::parse(&offer.yaml).map_err(|error| error.to_string())?;
        baseline.version = Some(offer.version);
        let layers = self.local.around(Some(baseline)).expect("it is one of the layers");
        let (in_force, answer) = crossbeam_channel::bounded(1);
        self.handovers
            .send_timeout(Handover { layers, in_force }, HANDOVER_TIMEOUT)
            .map_err(|_| "the pipeline does not take baselines".to_owned())?;
        answer
            .recv_timeout(HANDOVER_TIMEOUT)
            .map_err(|_| "the pipeline did not take the baseline in time".to_owned())?;
        self.lock().in_force = offered;
        tracing::info!("baseline version {} in force", offer.version);
        match self.keep(offer) {
            Ok(()) => self.lock().trouble = None,
            Err(error) => self.note(format!("{}: not kept: {error}", self.text_file.display())),
        }
        Ok(())
    }

    fn keep(&self, offer: &Offer) -> std::io::Result<()> {
        let meta = Meta { version: offer.version, sha256: hex(&offer.sha256) };
        let meta = toml::to_string(&meta).map_err(std::io::Error::other)?;
        write_private(&self.text_file, offer.yaml.as_bytes())?;
        write_private(&self.meta_file, meta.as_bytes())
    }

    /// The baseline in force.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        self.lock().in_force
    }

    /// What is wrong with the copy on disk.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn note(&self, trouble: String) {
        tracing::error!("baseline: {trouble}");
        self.lock().trouble = Some(trouble);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The drain thread looks for a baseline at least every 100 ms.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LayerFiles;

    const GOOD: &str =
        "fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/a:\n      exec: [/usr/bin/b]\n";

    fn offer(version: u64, yaml: &str) -> Offer {
        Offer { version, sha256: Sha256::digest(yaml).into(), yaml: yaml.to_owned() }
    }

    fn start(folder: &std::path::Path) -> (BaselineKeeper, Option<Layers>, Receiver<Handover>) {
        start_among(folder, LocalLayers::default())
    }

    fn start_among(
        folder: &std::path::Path,
        local: LocalLayers,
    ) -> (BaselineKeeper, Option<Layers>, Receiver<Handover>) {
        BaselineKeeper::start(folder.join("baseline.yaml"), folder.join("baseline.meta.toml"), local)
    }

    /// Plays the drain thread for one baseline.
    fn apply(keeper: &BaselineKeeper, received: &Receiver<Handover>, offer: &Offer) -> Result<(), String> {
        let ticket = keeper.announce();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| keeper.take(ticket, offer));
            if let Ok(handover) = received.recv_timeout(HANDOVER_TIMEOUT) {
                assert_eq!(handover.layers.version(), Some(offer.version));
                handover.in_force.send(()).unwrap();
            }
            taking.join().unwrap()
        })
    }

    #[test]
    fn an_applied_baseline_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, none, received) = start(folder.path());
        assert!(none.is_none());
        apply(&keeper, &received, &offer(7, GOOD)).unwrap();
        let (again, baseline, _received) = start(folder.path());
        assert_eq!(again.in_force(), keeper.in_force());
        assert_eq!(baseline.unwrap().version(), Some(7));
    }

    #[test]
    fn a_pushed_baseline_replaces_its_own_layer_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("host.yaml");
        std::fs::write(&host, GOOD.replace("/usr/bin/b", "/usr/bin/host")).unwrap();
        let local = LocalLayers::load(&LayerFiles { host: Some(host), ..LayerFiles::default() }).unwrap();
        let (keeper, layers, received) = start_among(folder.path(), local.clone());
        let names = |layers: &Layers| -> Vec<String> {
            layers.layers().iter().map(|layer| layer.name.clone()).collect()
        };
        assert_eq!(names(&layers.unwrap()), ["host"]);
        assert_eq!(
            keeper.in_force(),
            InForce::default(),
            "what the collector has not pushed it is not told of"
        );
        apply(&keeper, &received, &offer(7, GOOD)).unwrap();
        apply(&keeper, &received, &offer(8, "fleet: web\nworkloads: {}\n")).unwrap();
        let (_, layers, _received) = start_among(folder.path(), local);
        let layers = layers.unwrap();
        assert_eq!(
            (names(&layers), layers.version()),
            (vec!["fleet".to_owned(), "host".to_owned()], Some(8))
        );
        let counts: Vec<_> = layers.layers().iter().map(|layer| layer.baseline.entry_count()).collect();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn an_earlier_offer_does_not_replace_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, _, received) = start(folder.path());
        let earlier = keeper.announce();
        apply(&keeper, &received, &offer(8, GOOD)).unwrap();
        let error = keeper.take(earlier, &offer(7, GOOD)).expect_err("its thread came late");
        assert!(error.contains("later"), "{error}");
        assert_eq!(keeper.in_force().version, 8);
    }

    #[test]
    fn a_broken_baseline_is_refused_with_its_line_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, _, _received) = start(folder.path());
        let error = keeper
            .take(keeper.announce(), &offer(8, "fleet: web\nworkloads: [1]\n"))
            .expect_err("it is broken");
        assert!(error.contains('2'), "{error}");
        assert_eq!(keeper.in_force(), InForce::default());
        assert!(!folder.path().join("baseline.yaml").exists());
    }

    #[test]
    fn a_damaged_copy_is_trouble_and_not_an_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("baseline.yaml"), "\u{0}").unwrap();
        let (keeper, baseline, _received) = start(folder.path());
        assert!(baseline.is_none());
        assert!(keeper.trouble().unwrap().contains("baseline.yaml"));
    }
}
