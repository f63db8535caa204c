//! A thread that tells of what happened, for threads that must not wait for whoever reads it: a log that hangs would
//! hold up the rings until they are full. Not what is told, or how. It may call a thread and channels.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::io;
use std::time::Duration;

/// Takes what is to be told, and counts what it has no room for.
#[derive(Debug)]
pub(crate) struct Teller<T> {
    /// None once it has ended.
    queue: Option<Sender<T>>,
    /// Closed once everything has been told.
    has_ended: Receiver<()>,
    dropped: u64,
}

impl<T: Send + 'static> Teller<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(tell: impl Fn(T) + Send + 'static) -> io::Result<Self> {
        let (queue, queued) = bounded::<T>(QUEUED_MAX);
        let (ends, has_ended) = bounded::<()>(1);
        std::thread::Builder::new().name("teller".to_owned()).spawn(move || {
            queued.iter().for_each(tell);
            drop(ends);
        })?;
        Ok(Self { queue: Some(queue), has_ended, dropped: 0 })
    }

    /// Has it told, without waiting.
    pub(crate) fn tell(&mut self, what: T) {
        let is_told = self.queue.as_ref().is_some_and(|queue| queue.try_send(what).is_ok());
        self.dropped += u64::from(!is_told);
    }

    /// What there was no room for.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until everything has been told, a second at most. Whether it has.
    pub(crate) fn end(&mut self) -> bool {
        self.queue = None;
        matches!(self.has_ended.recv_timeout(END_MAX), Err(RecvTimeoutError::Disconnected))
    }
}

/// What waits to be told at most.
const QUEUED_MAX: usize = 256;
/// How long a reader that hangs may hold up the end.
const END_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn everything_is_told_in_order() {
        let (told, heard) = unbounded();
        let mut teller = Teller::start(move |number| told.send(number).unwrap()).unwrap();
        (0..100).for_each(|number| teller.tell(number));
        assert_eq!(teller.dropped(), 0);
        assert!(teller.end());
        assert_eq!(heard.iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_hangs_holds_nobody_up() {
        let (release, hangs) = bounded::<()>(0);
        let mut teller = Teller::start(move |_: usize| hangs.recv().unwrap_or_default()).unwrap();
        (0..QUEUED_MAX + 10).for_each(|number| teller.tell(number));
        // The thread may have taken one out.
        assert!((9..=10).contains(&teller.dropped()), "{}", teller.dropped());
        assert!(!teller.end());
        drop(release);
    }
}
