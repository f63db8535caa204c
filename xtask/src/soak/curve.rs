//! A line through the samples, and the samples as a picture. Pure: numbers in, text out.

use super::sample::Sample;
use std::fmt;

/// `t` of Student's distribution for 95% and many samples; with fewer than thirty it is a little too small.
const T_95: f64 = 1.96;

/// A least-squares line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// Its value at the first point.
    pub(super) at_start: f64,
    /// Its slope.
    pub(super) slope: f64,
    /// Standard error of the slope.
    pub(super) slope_error: f64,
}

impl Fit {
    /// Through points; `None` for fewer than three, or when all lie at one place.
    pub(super) fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f64;
        let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
        let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let value = |x: f64| mean_y + slope * (x - mean_x);
        let residuals: f64 = points.iter().map(|(x, y)| (y - value(*x)).powi(2)).sum();
        let slope_error = (residuals / (count - 2.0) / spread).sqrt();
        Some(Self { at_start: value(points[0].0), slope, slope_error })
    }

    /// Lower end of the slope's 95% confidence interval.
    pub(super) fn slope_low(&self) -> f64 {
        self.slope - T_95 * self.slope_error
    }

    /// Its upper end.
    pub(super) fn slope_high(&self) -> f64 {
        self.slope + T_95 * self.slope_error
    }
}

/// Memory over time, as bars.
pub(super) struct Curve(Vec<(f64, u64)>);

impl Curve {
    /// At most [`BARS`] of the samples.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let step = samples.len().div_ceil(BARS).max(1);
        Self(
            samples
                .iter()
                .step_by(step)
                .map(|sample| (sample.at.as_secs_f64() / 60.0, sample.rss_kib))
                .collect(),
        )
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = self.0.iter().map(|point| point.1).max().unwrap_or(1).max(1);
        for (minutes, rss_kib) in &self.0 {
            let width = (WIDTH * rss_kib / highest) as usize;
            writeln!(formatter, "{minutes:6.1} min {rss_kib:8} KiB {}", "#".repeat(width))?;
        }
        Ok(())
    }
}

/// Lines of the picture at most, and the width of the longest bar.
const BARS: usize = 31;
const WIDTH: u64 = 50;

#[cfg(test)]
mod tests {
    use super::Fit;

    #[test]
    fn a_line_is_found_and_noise_is_no_slope() {
        let exact: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x))).collect();
        let fit = Fit::of(&exact).expect("ten points");
        assert!((fit.slope - 2.0).abs() < 1e-9 && (fit.at_start - 5.0).abs() < 1e-9);
        assert!(fit.slope_low() > 1.999);
        let noise: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), f64::from(x * 37 % 11))).collect();
        let fit = Fit::of(&noise).expect("many points");
        assert!(fit.slope_low() < 0.0 && fit.slope_high() > 0.0);
    }

    #[test]
    fn too_little_gives_no_line() {
        assert_eq!(Fit::of(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Fit::of(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
