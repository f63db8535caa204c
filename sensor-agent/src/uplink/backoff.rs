//! How long to wait before the next connection attempt: decorrelated jitter. Not a timer: it neither sleeps nor reads
//! a clock, and its randomness comes from a seed. It may call nothing but the standard library.

use std::time::Duration;

/// Waits that grow after each failure, at random, so that a fleet does not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    last: Option<Duration>,
    /// All waits since the last success: how long the peer has been away, without the attempts themselves.
    waited: Duration,
    random: u64,
}

impl Backoff {
    /// Starts at the shortest wait; equal seeds give equal waits.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { last: None, waited: Duration::ZERO, random: seed }
    }

    /// The wait after one more failure: the first is between [`FIRST_MIN`] and [`FIRST_MAX`], later ones between
    /// [`FIRST_MAX`] and three times the one before, at most [`WAIT_MAX`] and at most half of what was waited so
    /// far: a peer that was away for a minute is met again within half a minute, not after five.
    pub fn next_wait(&mut self) -> Duration {
        let (low, high) = match self.last {
            None => (FIRST_MIN, FIRST_MAX),
            Some(last) => (FIRST_MAX, (last * 3).min(self.waited / 2).clamp(FIRST_MAX, WAIT_MAX)),
        };
        let wait = self.between(low, high);
        self.last = Some(wait);
        self.waited += wait;
        wait
    }

    /// Forgets the failures: the connection has proved to work.
    pub const fn reset(&mut self) {
        self.last = None;
        self.waited = Duration::ZERO;
    }

    /// A wait that a peer has asked for, bounded, and spread by a quarter so that its agents do not return in step.
    pub fn asked_wait(&mut self, asked: Duration) -> Duration {
        let asked = asked.min(WAIT_MAX);
        self.between(asked, asked + asked / 4)
    }

    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
        low + Duration::from_micros(if span == 0 { 0 } else { self.next_random() % (span + 1) })
    }

    /// SplitMix64: good enough to spread, and the same everywhere.
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Bounds of the first wait: a collector that restarts is back within a second.
pub const FIRST_MIN: Duration = Duration::from_millis(250);
/// See [`FIRST_MIN`]; also the least of every later wait.
pub const FIRST_MAX: Duration = Duration::from_secs(1);
/// No wait is longer.
pub const WAIT_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_bounds_and_grow() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            let first = backoff.next_wait();
            assert!((FIRST_MIN..=FIRST_MAX).contains(&first), "{first:?}");
            let mut previous = first;
            for _ in 0..50 {
                let wait = backoff.next_wait();
                assert!(wait >= FIRST_MAX && wait <= (previous * 3).clamp(FIRST_MAX, WAIT_MAX), "{wait:?}");
                previous = wait;
            }
            backoff.reset();
            assert!(backoff.next_wait() <= FIRST_MAX);
        }
    }

    #[test]
    fn a_wait_is_at_most_half_of_the_time_away_and_reaches_the_longest() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            let mut away = backoff.next_wait();
            for _ in 0..200 {
                let wait = backoff.next_wait();
                assert!(wait <= (away / 2).max(FIRST_MAX), "{wait:?} after {away:?}");
                away += wait;
            }
            assert!(away > WAIT_MAX * 10, "waits must grow: {away:?}");
        }
    }

    #[test]
    fn an_asked_wait_is_honoured_and_bounded() {
        let mut backoff = Backoff::new(1);
        let asked = Duration::from_secs(8);
        assert!((asked..=asked * 5 / 4).contains(&backoff.asked_wait(asked)));
        assert!(backoff.asked_wait(Duration::from_secs(100_000)) <= WAIT_MAX * 5 / 4);
    }
}
