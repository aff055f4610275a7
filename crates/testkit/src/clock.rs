//! Clocks that a test owns.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::coherence::MonotonicInstant;
use domain::ports::{Clock, MonotonicClock};

/// A clock that stands still until a test moves it.
pub struct FixedClock(Mutex<DateTime<Utc>>);

impl FixedClock {
    /// Creates a clock that says `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock; backwards, if `by` is negative.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().expect("no test panics while it holds the clock") += by;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no test panics while it holds the clock")
    }
}

/// A monotonic clock that stands still until a test moves it, or a sleep begins: that takes no
/// time, but moves it.
#[derive(Default)]
pub struct SteppingClock(Mutex<Duration>);

impl SteppingClock {
    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().expect("no test panics while it holds the clock") += by;
    }
}

#[async_trait]
impl MonotonicClock for SteppingClock {
    fn now(&self) -> MonotonicInstant {
        MonotonicInstant(*self.0.lock().expect("no test panics while it holds the clock"))
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}
