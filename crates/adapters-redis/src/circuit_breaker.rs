use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Consecutive failures after which Redis is left alone for a while.
pub(crate) const FAILURES_TO_OPEN: u32 = 5;
/// How long it is left alone before one call tries again.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Keeps calls away from a server that does not answer, so that a request does not wait for it each time.
///
/// Closed: every call goes. After [`FAILURES_TO_OPEN`] failures in a row it is open: one call in [`PROBE_EVERY`] goes, as a
/// probe; the first success closes it.
#[derive(Default)]
pub(crate) struct CircuitBreaker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    next_probe: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether a call may go now. Every call that went must report [`success`](Self::success) or
    /// [`failure`](Self::failure).
    pub(crate) fn allows_call(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.next_probe {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                state.next_probe = Some(now + PROBE_EVERY);
                true
            }
        }
    }

    /// Whether the last call succeeded: while it did not, only calls that somebody waits for should go.
    pub(crate) fn is_healthy(&self) -> bool {
        self.state().failures == 0
    }

    /// A call was answered. True if that closed the breaker.
    pub(crate) fn success(&self) -> bool {
        let was_open = self.state().next_probe.is_some();
        *self.state() = State::default();
        was_open
    }

    /// A call was not answered. True if that opened the breaker.
    pub(crate) fn failure(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let opens = state.failures == FAILURES_TO_OPEN;
        if opens {
            state.next_probe = Some(now + PROBE_EVERY);
        }
        opens
    }

    /// Nothing panics while it holds the lock, so a poisoned state is a whole state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_failures_in_a_row() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        for _ in 1..FAILURES_TO_OPEN {
            assert!(!breaker.failure(now));
            assert!(breaker.allows_call(now));
        }
        assert!(breaker.failure(now));
        assert!(!breaker.allows_call(now));
    }

    #[test]
    fn a_success_starts_the_count_anew() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES_TO_OPEN {
                breaker.failure(now);
            }
            assert!(!breaker.is_healthy());
            assert!(!breaker.success());
            assert!(breaker.is_healthy());
        }
        assert!(breaker.allows_call(now));
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_at_a_time_and_a_success_closes_it() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        for _ in 0..FAILURES_TO_OPEN {
            breaker.failure(now);
        }
        let later = now + PROBE_EVERY;
        assert!(breaker.allows_call(later));
        assert!(!breaker.allows_call(later), "one probe is enough");
        assert!(!breaker.failure(later), "it was open already");
        assert!(breaker.allows_call(later + PROBE_EVERY));

        assert!(breaker.success());
        assert!(breaker.allows_call(later) && breaker.allows_call(later));
    }
}
