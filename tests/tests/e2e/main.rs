//! End-to-end tests: the built binaries on the live kernel, driven as an operator drives them. Not unit tests. Each
//! says `skipped: REASON` where the kernel or the privileges for it are missing.

mod bad_input;
mod delivery;
mod fleet;
mod noise;

/// Returns from the test, counted as skipped, where kernel programs cannot be loaded.
macro_rules! require_live_kernel {
    () => {
        if let Some(reason) = sensor_tests::why_not_live()? {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
}
pub(crate) use require_live_kernel;

/// A scratch folder that goes with the test.
pub(crate) fn scratch() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("sensor-e2e-").tempdir()?)
}
