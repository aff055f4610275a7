//! Writes recorded activity to the store.

use std::sync::Arc;

use domain::ports::{PortError, SessionRepository};

use super::ActivityBuffer;

/// Sessions that one statement writes.
const BATCH: usize = 2000;
/// Batches of one round that may fail, for example because a row is locked, before the others wait
/// for the next round too.
const MAX_FAILURES: u32 = 3;

/// Writes the activity that an [`ActivityBuffer`] has recorded.
pub struct ActivityWriter {
    session_repo: Arc<dyn SessionRepository>,
    buffer: Arc<ActivityBuffer>,
}

impl ActivityWriter {
    /// Creates the writer of this buffer.
    pub fn new(session_repo: Arc<dyn SessionRepository>, buffer: Arc<ActivityBuffer>) -> Self {
        Self { session_repo, buffer }
    }

    /// Writes what is due, and returns of how many sessions.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not take it. It is tried again soon.
    ///
    /// # Cancel safety
    /// What was not written when this is dropped is tried again soon.
    pub async fn write_due(&self) -> Result<usize, PortError> {
        self.write(false).await
    }

    /// Writes all activity, due or not, and returns of how many sessions: before an orderly stop.
    ///
    /// # Errors
    /// As for [`write_due`](Self::write_due).
    pub async fn write_all(&self) -> Result<usize, PortError> {
        self.write(true).await
    }

    /// Returns how often activity was not recorded, because there was no room.
    pub fn dropped(&self) -> u64 {
        self.buffer.dropped()
    }

    async fn write(&self, is_all: bool) -> Result<usize, PortError> {
        let mut taken = if is_all { self.buffer.take_all() } else { self.buffer.take_due() };
        let mut written = 0;
        let mut failures = 0;
        let mut result = Ok(());
        while let Some(batch) = taken.next_batch(BATCH).filter(|_| failures < MAX_FAILURES) {
            match self.session_repo.touch(batch).await {
                Ok(()) => {
                    written += batch.len();
                    taken.batch_is_written();
                }
                Err(error) => {
                    failures += 1;
                    result = Err(error);
                    taken.batch_failed();
                }
            }
        }
        result.map(|()| written)
    }
}
