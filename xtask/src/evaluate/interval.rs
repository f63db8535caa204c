//! A proportion with its 95 % confidence interval by Wilson's method: right also for few runs and near none or all. Not a
//! test of anything. It calls nothing.

use std::fmt;

/// `hits` of `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proportion {
    pub(super) hits: usize,
    pub(super) total: usize,
}

/// The normal distribution's quantile for 95 %.
const Z: f64 = 1.959_963_985;

impl Proportion {
    /// Of a list of yes and no.
    pub(super) fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        outcomes.into_iter().fold(Self::default(), |sum, is_hit| Self {
            hits: sum.hits + usize::from(is_hit),
            total: sum.total + 1,
        })
    }

    /// Lower and upper end, from 0 to 1; `None` of nothing.
    pub(super) fn interval(self) -> Option<(f64, f64)> {
        if self.total == 0 {
            return None;
        }
        let total = self.total as f64;
        let share = self.hits as f64 / total;
        let scale = 1.0 + Z * Z / total;
        let centre = share + Z * Z / (2.0 * total);
        let half = Z * (share * (1.0 - share) / total + Z * Z / (4.0 * total * total)).sqrt();
        Some((((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)))
    }
}

impl fmt::Display for Proportion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((low, high)) = self.interval() else { return formatter.write_str("0/0") };
        let share = 100.0 * self.hits as f64 / self.total as f64;
        let (low, high) = (100.0 * low, 100.0 * high);
        write!(formatter, "{}/{} = {share:.1} % ({low:.1}–{high:.1})", self.hits, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::Proportion;

    #[test]
    fn interval_is_wilsons() {
        // Published values: Newcombe 1998, table I, method 3.
        for (hits, total, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (found_low, found_high) = Proportion { hits, total }.interval().unwrap();
            assert!(
                (found_low - low).abs() < 5e-5 && (found_high - high).abs() < 5e-5,
                "{found_low} {found_high}"
            );
        }
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(Proportion::of([]).interval(), None);
        assert_eq!(Proportion::of([]).to_string(), "0/0");
        assert_eq!(Proportion::of([true, false]).to_string(), "1/2 = 50.0 % (9.5–90.5)");
    }
}
