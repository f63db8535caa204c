//! Scans /proc again when records of processes were lost, in a thread of its own: the drain path does no I/O. Not what
//! the scan repairs. It may call `enrich::seed`, a thread, channels and a clock.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::time::{Duration, Instant};

use crate::enrich::seed::{self, Rescan};

/// Asks for scans and hands over what they found.
#[derive(Debug)]
pub struct Rescanner {
    requests: Sender<()>,
    scans: Receiver<Result<Rescan, String>>,
    asking: Asking,
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
                if done.send(seed::rescan().map_err(|error| error.to_string())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, scans, asking: Asking::default() })
    }

    /// Asks for a scan when more process records were lost than when the last one that worked was asked for: `lost`
    /// counts all since the start. At most one is under way, and at most one begins in [`INTERVAL`].
    pub fn note_lost(&mut self, lost: u64) {
        if self.asking.begins(lost, Instant::now()) && self.requests.try_send(()).is_err() {
            self.asking.ended(Some("its thread has ended".to_owned()));
        }
    }

    /// Whether there is nothing to wait for: every loss up to `lost` was followed by a scan, which was taken.
    #[must_use]
    pub const fn is_settled(&self, lost: u64) -> bool {
        self.asking.under_way.is_none() && lost <= self.asking.settled
    }

    /// A scan that has ended since.
    pub fn take(&mut self) -> Option<Rescan> {
        let scan = self.scans.try_recv().ok()?;
        self.asking.ended(scan.as_ref().err().cloned());
        scan.ok()
    }

    /// Scans that failed, and scans that did not end in time.
    #[must_use]
    pub const fn troubles(&self) -> [(&'static str, u64); 2] {
        [("process_rescans_failed", self.asking.failed), ("process_rescans_overdue", self.asking.overdue)]
    }

    /// Why what was lost is not made up for.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        self.asking.degraded()
    }
}

/// When a scan is asked for, and what came of it.
#[derive(Debug, Default)]
struct Asking {
    /// Losses when the last scan that worked was asked for.
    settled: u64,
    under_way: Option<UnderWay>,
    asked: Option<Instant>,
    failure: Option<String>,
    failed: u64,
    overdue: u64,
}

/// A scan that has not ended.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// Losses when it was asked for.
    lost: u64,
    is_overdue: bool,
}

impl Asking {
    /// Whether a scan begins now.
    fn begins(&mut self, lost: u64, now: Instant) -> bool {
        let since = self.asked.map(|asked| now.duration_since(asked));
        if let Some(scan) = &mut self.under_way {
            // A thread that the kernel holds cannot be ended, and another one would be held as well.
            if !scan.is_overdue && since.is_some_and(|since| since > SCAN_MAX) {
                scan.is_overdue = true;
                self.overdue += 1;
            }
            return false;
        }
        let begins = lost > self.settled && since.is_none_or(|since| since >= INTERVAL);
        if begins {
            self.under_way = Some(UnderWay { lost, is_overdue: false });
            self.asked = Some(now);
        }
        begins
    }

    /// A scan has ended, with a failure or without. One that failed made up for nothing: it is asked for again.
    fn ended(&mut self, failure: Option<String>) {
        let Some(scan) = self.under_way.take() else { return };
        self.failed += u64::from(failure.is_some());
        if failure.is_none() {
            self.settled = scan.lost;
        }
        self.failure = failure;
    }

    fn degraded(&self) -> Option<String> {
        match (self.under_way, &self.failure) {
            (Some(UnderWay { is_overdue: true, .. }), _) => {
                Some(format!("processes: a scan of /proc has not ended within {} s", SCAN_MAX.as_secs()))
            }
            (_, Some(reason)) => Some(format!("processes: /proc cannot be scanned: {reason}")),
            _ => None,
        }
    }
}

/// Least time from the begin of one scan to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a scan may take before it counts as one that hangs.
const SCAN_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_loss_is_followed_by_one_scan() {
        let (start, mut asking) = (Instant::now(), Asking::default());
        assert!(!asking.begins(0, start));
        assert!(asking.begins(1, start));
        assert!(!asking.begins(2, at(start, 3)), "one is under way");
        asking.ended(None);
        assert_eq!(asking.settled, 1);
        assert!(asking.begins(2, at(start, 4)), "the second came after the scan began");
        asking.ended(None);
        assert!(!asking.begins(2, at(start, 9)));
        assert!(!asking.begins(3, at(start, 5)), "too soon");
    }

    #[test]
    fn a_scan_that_fails_is_asked_for_again() {
        let (start, mut asking) = (Instant::now(), Asking::default());
        assert!(asking.begins(1, start));
        asking.ended(Some("no".to_owned()));
        assert_eq!(asking.degraded().unwrap(), "processes: /proc cannot be scanned: no");
        assert!(!asking.begins(1, at(start, 1)));
        assert!(asking.begins(1, at(start, 2)));
        asking.ended(None);
        assert_eq!((asking.failed, asking.settled, asking.degraded()), (1, 1, None));
    }

    #[test]
    fn a_scan_that_hangs_is_told_once_and_taken_when_it_ends() {
        let (start, mut asking) = (Instant::now(), Asking::default());
        assert!(asking.begins(1, start));
        assert!(!asking.begins(1, at(start, 60)));
        assert_eq!(asking.degraded(), None);
        assert!(!asking.begins(1, at(start, 61)) && !asking.begins(1, at(start, 90)));
        assert_eq!(asking.degraded().unwrap(), "processes: a scan of /proc has not ended within 60 s");
        asking.ended(None);
        assert_eq!((asking.overdue, asking.settled, asking.degraded()), (1, 1, None));
    }
}
