//! Scans /proc again when records of processes were lost, in a thread of its own: the drain path does no I/O. Not what
//! the scan repairs. It may call `seed`, a thread and channels.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::time::{Duration, Instant};

use super::seed::{self, Rescan};

/// Asks for scans and hands over what they found.
#[derive(Debug)]
pub struct Rescanner {
    requests: Sender<()>,
    scans: Receiver<Option<Rescan>>,
    is_under_way: bool,
    /// Losses when the last scan was asked for.
    lost: u64,
    asked: Option<Instant>,
}

impl Rescanner {
    /// Starts the thread, which ends when the `Rescanner` is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (requests, asked) = bounded::<()>(1);
        let (done, scans) = bounded(1);
        std::thread::Builder::new().name("rescan".to_owned()).spawn(move || {
            for () in asked {
                // A scan that fails is not made up for: the next loss asks again.
                if done.send(seed::rescan().ok()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, scans, is_under_way: false, lost: 0, asked: None })
    }

    /// Asks for a scan when more process records were lost than when the last one was asked for: `lost` counts all
    /// since the start. At most one is under way, and at most one begins in [`INTERVAL`].
    pub fn note_lost(&mut self, lost: u64) {
        let is_soon = self.asked.is_some_and(|asked| asked.elapsed() < INTERVAL);
        if lost <= self.lost || self.is_under_way || is_soon {
            return;
        }
        self.is_under_way = self.requests.try_send(()).is_ok();
        self.lost = lost;
        self.asked = Some(Instant::now());
    }

    /// Whether there is nothing to wait for: every loss up to `lost` was followed by a scan, which was taken.
    #[must_use]
    pub const fn is_settled(&self, lost: u64) -> bool {
        !self.is_under_way && self.lost == lost
    }

    /// A scan that has ended since.
    pub fn take(&mut self) -> Option<Rescan> {
        let scan = self.scans.try_recv().ok()?;
        self.is_under_way = false;
        scan
    }
}

/// Least time from the begin of one scan to the next.
const INTERVAL: Duration = Duration::from_secs(2);
