//! The clock for time-outs and schedules, which never goes back.

use std::time::Duration;

use async_trait::async_trait;

use crate::coherence::MonotonicInstant;

/// The process's monotonic clock: it never goes back, and says nothing about the time of day.
#[async_trait]
pub trait MonotonicClock: Send + Sync {
    /// Returns the present time.
    fn now(&self) -> MonotonicInstant;

    /// Waits for this long, or a little longer.
    async fn sleep(&self, duration: Duration);
}
