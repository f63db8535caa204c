//! Durations on the command line: a number and its unit. Not configuration files' durations. It may call `std` only.

use std::time::Duration;

/// Reads `500ms`, `60s`, `5m`, `2h`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a number and ms, s, m or h, for example 60s, found {text:?}");
    let unit_at = text.find(|ch: char| !ch.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(expected)?;
    if duration.is_zero() {
        Err(format!("must be longer than nothing, found {text:?}"))
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("60s"), Ok(Duration::from_mins(1)));
        assert_eq!(parse("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse("2h"), Ok(Duration::from_hours(2)));
        for wrong in
            ["", "60", "s", "1.5s", "-1s", "1 s", "1d", "0s", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(parse(wrong).unwrap_err().contains(&format!("{wrong:?}")), "{wrong}");
        }
    }
}
