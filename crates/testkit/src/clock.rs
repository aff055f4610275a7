use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use domain::ports::Clock;

/// A clock that stands still until a test moves it.
pub struct FixedClock(Mutex<DateTime<Utc>>);

impl FixedClock {
    /// A clock that says `now`.
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
