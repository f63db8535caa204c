//! Wall-clock time as the collector stores it. It is not for measuring durations. It may call the system clock; the
//! logic modules take the time as an argument and never call [`now`].

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, never above `i64::MAX` (the year 2262), which is what the store can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNs(i64);

impl UnixNs {
    /// Clamps what an agent claims to what the store can hold.
    pub fn from_claimed(ns: u64) -> Self {
        Self(i64::try_from(ns).unwrap_or(i64::MAX))
    }

    /// As stored in a column.
    pub fn from_column(ns: i64) -> Self {
        Self(ns.max(0))
    }

    /// The value for a column.
    pub fn column(self) -> i64 {
        self.0
    }

    /// This time plus `seconds`, at most the largest time.
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let ns = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(NS_PER_SECOND);
        Self(self.0.saturating_add(ns))
    }

    /// This time less `seconds`, at least the epoch.
    pub fn minus_seconds(self, seconds: u64) -> Self {
        let ns = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(NS_PER_SECOND);
        Self::from_column(self.0.saturating_sub(ns))
    }

    /// Milliseconds from `earlier` to this time; negative when the clocks of two hosts disagree.
    pub fn ms_since(self, earlier: Self) -> f64 {
        (self.0.saturating_sub(earlier.0)) as f64 / NS_PER_MS
    }

    /// RFC 3339 in UTC with nine digits of fraction.
    pub fn rfc3339(self) -> String {
        let timestamp = jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .expect("an i64 of nanoseconds is within the years that jiff knows");
        format!("{timestamp:.9}")
    }
}

/// The time now.
pub fn now() -> UnixNs {
    let ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
    UnixNs(i64::try_from(ns).unwrap_or(i64::MAX))
}

const NS_PER_SECOND: i64 = 1_000_000_000;
const NS_PER_MS: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::UnixNs;

    #[test]
    fn rfc3339_keeps_nanoseconds() {
        assert_eq!(
            UnixNs::from_claimed(1_700_000_000_000_000_001).rfc3339(),
            "2023-11-14T22:13:20.000000001Z"
        );
    }

    #[test]
    fn a_claimed_time_beyond_the_column_is_clamped() {
        assert_eq!(UnixNs::from_claimed(u64::MAX).column(), i64::MAX);
        assert_eq!(UnixNs::from_claimed(u64::MAX).plus_seconds(1).column(), i64::MAX);
    }

    #[test]
    fn clocks_that_disagree_give_a_negative_latency() {
        let latency = UnixNs::from_claimed(1_000_000).ms_since(UnixNs::from_claimed(3_000_000));
        assert!((latency + 2.0).abs() < 1e-9);
    }
}
