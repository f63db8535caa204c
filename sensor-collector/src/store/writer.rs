//! The writer thread: takes queued jobs, does many in one transaction, and answers them after the commit. It does
//! not know what the jobs write. It may call rusqlite.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// A unit of writing, run inside a savepoint and answered after the commit.
pub(super) trait Job: Send {
    /// Writes. `Undo` takes back what this job wrote.
    fn run(&mut self, connection: &Connection) -> Outcome;
    /// Answers, given whether the group was committed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What a job wants to happen to its writes.
#[derive(PartialEq, Eq)]
pub(super) enum Outcome {
    Keep,
    Undo,
}

/// A job made of a closure and the place for its result.
pub(super) struct Task<T, E, F> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Task<T, E, F> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work: Some(work), result: None, reply }
    }
}

impl<T, E, F> Job for Task<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn run(&mut self, connection: &Connection) -> Outcome {
        let work = self.work.take().expect("the writer runs a job once");
        let result = work(connection);
        let outcome = if result.is_ok() { Outcome::Keep } else { Outcome::Undo };
        self.result = Some(result);
        outcome
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            // The job's own error says more than that its group failed.
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::RolledBack.into()),
        };
        // Nobody waits any more when the stream has ended meanwhile: what is committed stays committed.
        let _ = self.reply.send(result);
    }
}

/// Runs until every sender is gone.
pub(super) fn run(mut connection: Connection, mut inbox: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_JOBS_MAX
            && let Ok(job) = inbox.try_recv()
        {
            group.push(job);
        }
        let committed = commit(&mut connection, &mut group);
        if let Err(error) = &committed {
            tracing::error!(jobs = group.len(), %error, "group commit failed");
        }
        for job in group {
            job.finish(committed.clone());
        }
    }
}

fn commit(connection: &mut Connection, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group {
        transaction.execute_batch("SAVEPOINT job")?;
        let outcome = job.run(&transaction);
        check_alive(&transaction)?;
        if outcome == Outcome::Undo {
            transaction.execute_batch("ROLLBACK TO job")?;
        }
        transaction.execute_batch("RELEASE job")?;
    }
    transaction.commit()?;
    Ok(())
}

/// A full or failing disk may make the engine roll back the whole transaction under us.
fn check_alive(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    if transaction.is_autocommit() { Err(StoreError::RolledBack) } else { Ok(()) }
}

/// Jobs of one transaction: enough to share one flush, few enough to answer soon.
const GROUP_JOBS_MAX: usize = 64;
