//! Ratios of paired runs: their geometric mean with its 95 % confidence interval, by Student's distribution over the
//! logarithms. Not the runs. Pure: numbers in, numbers out.

use std::fmt;

/// Two runs without and two with, in the order A B B A, so that what drifts meets both alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    /// What the runs without took.
    pub(super) bare: [u64; 2],
    /// What the runs with it took.
    pub(super) with: [u64; 2],
}

impl Block {
    /// How many times as much the runs with it took; `None` when the clock was too coarse for them.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (bare, with) = (self.bare[0] + self.bare[1], self.with[0] + self.with[1]);
        (bare > 0 && with > 0).then(|| with as f64 / bare as f64)
    }
}

/// How many times as much, with the interval that holds it in 95 of 100 such measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) blocks: usize,
}

impl Ratio {
    /// Of blocks; `None` of none. One block has a ratio, and an interval that excludes nothing.
    pub(super) fn of(blocks: &[Block]) -> Option<Self> {
        let logs: Vec<f64> = blocks.iter().filter_map(Block::ratio).map(f64::ln).collect();
        if logs.is_empty() {
            return None;
        }
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let half = if logs.len() == 1 {
            f64::INFINITY
        } else {
            let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
            t_95(logs.len() - 1) * (variance / count).sqrt()
        };
        let (low, high) = ((mean - half).exp(), (mean + half).exp());
        Some(Self { mean: mean.exp(), low, high, blocks: logs.len() })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} [{:.3}, {:.3}]", self.mean, self.low, self.high)
    }
}

/// The two-sided 95 % quantile of Student's distribution.
fn t_95(degrees: usize) -> f64 {
    const BY_DEGREES: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    // Beyond the table it falls slowly from here to 1.960.
    BY_DEGREES.get(degrees.saturating_sub(1)).copied().unwrap_or(2.04)
}

#[cfg(test)]
mod tests {
    use super::{Block, Ratio};
    use std::time::Duration;

    fn blocks(ratios: &[f64]) -> Vec<Block> {
        let block = |ratio: &f64| {
            let with = Duration::from_secs_f64(*ratio).as_nanos() as u64;
            Block { bare: [900_000_000, 1_100_000_000], with: [with, with] }
        };
        ratios.iter().map(block).collect()
    }

    #[test]
    fn interval_is_students_over_logarithms() {
        // Logarithms -0.1, 0, 0.1: mean 0, deviation 0.1, half width 4.303 * 0.1 / sqrt(3).
        let ratio = Ratio::of(&blocks(&[(-0.1f64).exp(), 1.0, 0.1f64.exp()])).unwrap();
        assert!((ratio.mean - 1.0).abs() < 1e-6);
        assert!((ratio.high.ln() - 0.24843).abs() < 1e-4 && (ratio.low.ln() + 0.24843).abs() < 1e-4);
        assert_eq!(ratio.blocks, 3);
    }

    #[test]
    fn equal_blocks_leave_no_doubt() {
        let ratio = Ratio::of(&blocks(&[1.25; 40])).unwrap();
        assert_eq!(ratio.to_string(), "1.250 [1.250, 1.250]");
    }

    #[test]
    fn one_block_excludes_nothing_and_none_has_no_ratio() {
        let ratio = Ratio::of(&blocks(&[2.0])).unwrap();
        assert_eq!((ratio.low, ratio.high), (0.0, f64::INFINITY));
        assert_eq!(Ratio::of(&[]), None);
        assert_eq!(Ratio::of(&[Block { bare: [0, 0], with: [5, 5] }]), None);
    }
}
