//! What the services share: store, CA, sessions, offers, counters, and the bound on bytes waiting for the store. It
//! is not a service and starts nothing. It may call the modules that it holds together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::counters::Counters;
use crate::fleet::offers::Offers;
use crate::identity::authority::Authority;
use crate::intake::{Commit, Content, NAME_BYTES_MAX};
use crate::sessions::Sessions;
use crate::store::Store;
use crate::store::tokens::ApiToken;

/// A running collector's parts.
pub struct Collector {
    /// As configured.
    pub config: Config,
    /// The durable state.
    pub store: Store,
    /// Signs certificates.
    pub authority: Authority,
    /// Live streams.
    pub sessions: Sessions,
    /// The current baseline of each fleet.
    pub offers: Offers,
    /// Who may use the API.
    pub api_tokens: Vec<ApiToken>,
    /// Of the collector itself.
    pub counters: Counters,
    /// Bytes of findings on their way into the store.
    pub queued_bytes: QueuedBytes,
}

/// Bounds the memory of batches that wait for the writer, over all agents.
pub struct QueuedBytes {
    kibibytes: Arc<Semaphore>,
}

impl Default for QueuedBytes {
    fn default() -> Self {
        Self { kibibytes: Arc::new(Semaphore::new(QUEUED_KIBIBYTES_MAX as usize)) }
    }
}

impl QueuedBytes {
    /// Waits until there is room for this batch; the room is free again when the permit is dropped.
    pub async fn reserve(&self, commit: &Commit) -> OwnedSemaphorePermit {
        let bytes: usize = commit.rows.iter().map(|row| content_bytes(&row.content)).sum();
        let kibibytes =
            u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, QUEUED_KIBIBYTES_MAX);
        let permit = Arc::clone(&self.kibibytes).acquire_many_owned(kibibytes).await;
        permit.expect("nothing closes this semaphore")
    }
}

fn content_bytes(content: &Content) -> usize {
    ROW_OVERHEAD_BYTES
        + match content {
            // Its names are texts of the body once more.
            Content::Finding(finding) => finding.body.len() + 2 * NAME_BYTES_MAX,
            Content::Gap(gap) => gap.kind.len() + gap.reason.len(),
        }
}

/// 64 MiB.
const QUEUED_KIBIBYTES_MAX: u32 = 64 << 10;
/// What a row takes besides its text.
const ROW_OVERHEAD_BYTES: usize = 128;
