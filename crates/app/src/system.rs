//! The real clock, ids and randomness: the one file that may ask the operating system for them
//! (`clippy.toml`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::coherence::MonotonicInstant;
use domain::ports::{Clock, IdGenerator, MonotonicClock};
use uuid::Uuid;

/// The operating system's wall clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's real adapter")]
    fn now(&self) -> DateTime<Utc> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(micros).unwrap_or_else(Utc::now)
    }
}

/// The operating system's monotonic clock.
pub struct SystemMonotonicClock {
    origin: Instant,
}

impl Default for SystemMonotonicClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

#[async_trait]
impl MonotonicClock for SystemMonotonicClock {
    fn now(&self) -> MonotonicInstant {
        MonotonicInstant(self.origin.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Version 7 UUIDs, of the wall clock and the operating system's randomness.
pub struct SystemIds;

impl IdGenerator for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "this is the IdGenerator port's real adapter")]
    fn next_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Returns the name of this machine, or of its container.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns random bytes that cannot be guessed.
///
/// # Panics
/// If the operating system has no randomness: nothing must go on without it.
#[expect(clippy::expect_used, reason = "nothing must go on without randomness")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_cut_to_microseconds() {
        assert_eq!(SystemClock.now().timestamp_subsec_nanos() % 1000, 0);
    }

    #[test]
    fn ids_are_version_7_and_ascend() {
        let first = SystemIds.next_id();
        let second = SystemIds.next_id();
        assert_eq!(first.get_version_num(), 7);
        assert!(first < second);
    }
}
