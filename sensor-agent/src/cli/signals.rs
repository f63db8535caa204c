//! SIGINT and SIGTERM as a flag to look at. Not what to do then. It runs one thread for as long as the process lives.

use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Set when the process was asked to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for signals from now on.
    pub(super) fn install() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the thread that waits for signals")?;
        let (mut sigint, mut sigterm) = {
            let _guard = runtime.enter();
            let install = |kind| signal(kind).context("cannot install a signal handler");
            (install(SignalKind::interrupt())?, install(SignalKind::terminate())?)
        };
        let flag = Arc::clone(&interrupt.0);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        tokio::select! {
                            _ = sigint.recv() => {}
                            _ = sigterm.recv() => {}
                        }
                        // A second request means now.
                        if flag.swap(true, Ordering::SeqCst) {
                            std::process::exit(i32::from(super::EXIT_TROUBLE));
                        }
                    }
                });
            })
            .context("cannot start the thread that waits for signals")?;
        Ok(interrupt)
    }

    /// Whether the process was asked to end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
