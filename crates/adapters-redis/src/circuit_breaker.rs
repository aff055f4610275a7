//! Keeps commands away from a server that does not respond.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row, without a success between them, before which the breaker never opens.
pub(crate) const FAILURES_TO_OPEN: u32 = 5;
/// How long a server must have sent nothing before the breaker opens: more than a pause of a
/// healthy one.
pub(crate) const SILENCE_TO_OPEN: Duration = Duration::from_millis(100);
/// How long the server is left alone before one command tries again.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Keeps calls away from a server that does not respond, so that a request does not wait for it
/// each time.
///
/// It counts commands, not the requests that share one: a late response to many is one failure.
/// Closed: every call goes. After [`FAILURES_TO_OPEN`] failures in a row, the first of them
/// [`SILENCE_TO_OPEN`] ago, it is open: one call in [`PROBE_EVERY`] goes, as a probe; the first
/// success closes it.
#[derive(Default)]
pub(crate) struct CircuitBreaker {
    /// 0 while all is well, which is all that the healthy path reads.
    failures: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    first_failure: Option<Instant>,
    next_probe: Option<Instant>,
}

impl CircuitBreaker {
    /// Returns whether a call may go now. Each command that goes must report
    /// [`success`](Self::success) or [`failure`](Self::failure).
    pub(crate) fn allows_call(&self, now: Instant) -> bool {
        if self.is_healthy() {
            return true;
        }
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

    /// Returns whether the last command succeeded: while it did not, only calls that a caller waits
    /// for should go.
    pub(crate) fn is_healthy(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    /// Returns whether calls are kept away.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_healthy() && self.state().next_probe.is_some()
    }

    /// Reports that a command got a response. Returns whether that closed the breaker.
    pub(crate) fn success(&self) -> bool {
        if self.is_healthy() {
            return false;
        }
        let mut state = self.state();
        self.failures.store(0, Ordering::Relaxed);
        std::mem::take(&mut *state).next_probe.is_some()
    }

    /// Reports that a command got no response. Returns whether that opened the breaker.
    pub(crate) fn failure(&self, now: Instant) -> bool {
        let mut state = self.state();
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        let first = *state.first_failure.get_or_insert(now);
        let is_silent = now.saturating_duration_since(first) >= SILENCE_TO_OPEN;
        let opens = failures >= FAILURES_TO_OPEN && is_silent && state.next_probe.is_none();
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

    /// Opens the breaker; returns when that was.
    fn open(breaker: &CircuitBreaker) -> Instant {
        let start = Instant::now();
        for _ in 1..FAILURES_TO_OPEN {
            assert!(!breaker.failure(start));
            assert!(breaker.allows_call(start));
        }
        let later = start + SILENCE_TO_OPEN;
        assert!(breaker.failure(later));
        later
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_silence() {
        let breaker = CircuitBreaker::default();
        let opened = open(&breaker);
        assert!(breaker.is_open() && !breaker.allows_call(opened));
    }

    #[test]
    fn many_failures_within_a_pause_do_not_open_it() {
        let breaker = CircuitBreaker::default();
        let now = Instant::now();
        for milliseconds in 0..SILENCE_TO_OPEN.as_millis() as u64 {
            assert!(!breaker.failure(now + Duration::from_millis(milliseconds)));
        }
        assert!(!breaker.is_open());
        breaker.success();
        assert!(!breaker.failure(now + SILENCE_TO_OPEN), "the count begins with the last success");
    }

    #[test]
    fn few_failures_with_long_pauses_do_not_open_it() {
        let breaker = CircuitBreaker::default();
        let now = Instant::now();
        for n in 1..FAILURES_TO_OPEN {
            assert!(!breaker.failure(now + n * SILENCE_TO_OPEN));
        }
        assert!(!breaker.is_open() && !breaker.is_healthy());
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_at_a_time_and_a_success_closes_it() {
        let breaker = CircuitBreaker::default();
        let later = open(&breaker) + PROBE_EVERY;
        assert!(breaker.allows_call(later));
        assert!(!breaker.allows_call(later), "one probe is enough");
        assert!(!breaker.failure(later), "it was open already");
        assert!(breaker.allows_call(later + PROBE_EVERY));

        assert!(breaker.success() && !breaker.success());
        assert!(breaker.is_healthy() && breaker.allows_call(later) && breaker.allows_call(later));
    }
}
