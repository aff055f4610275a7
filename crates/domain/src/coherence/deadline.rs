//! Times of a monotonic clock, and the time at which a revocation may be acknowledged without
//! communicating.

use std::time::Duration;

/// A time of a process's monotonic clock, as the duration since an origin of its own. Never
/// compared between processes: the rules use rates of clocks only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicInstant(pub Duration);

impl MonotonicInstant {
    /// Returns the time that is `duration` later.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// How much faster one clock may run than another: a thousandth.
const CLOCK_DRIFT: u32 = 1000;
/// By how much the operating system's timers and our own arithmetic may be wrong.
const EPSILON: Duration = Duration::from_millis(2);

/// Returns the time after which a revocation is effective on every node, even on a paused one, if
/// its commit had returned at `committed` and no node's maximum staleness is longer than
/// `max_staleness`.
pub fn ack_deadline(committed: MonotonicInstant, max_staleness: Duration) -> MonotonicInstant {
    committed.saturating_add(max_staleness + max_staleness / CLOCK_DRIFT + EPSILON)
}

/// Returns whether that time has passed: after it, not at it.
pub fn may_acknowledge(now: MonotonicInstant, deadline: MonotonicInstant) -> bool {
    now > deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_allows_for_clocks_that_drift_by_a_thousandth_and_is_exclusive() {
        let committed = MonotonicInstant(Duration::from_secs(100));
        let deadline = ack_deadline(committed, Duration::from_secs(1));
        assert_eq!(deadline.0, Duration::from_millis(101_000 + 1 + 2));
        assert!(!may_acknowledge(deadline, deadline));
        assert!(may_acknowledge(deadline.saturating_add(Duration::from_nanos(1)), deadline));
        assert!(!may_acknowledge(committed, deadline));
    }
}
