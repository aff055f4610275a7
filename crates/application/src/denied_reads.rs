use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::coherence::Monotonic;
use domain::ports::MonotonicClock;

use crate::queries::GetSession;

/// How long a denial is remembered at least, if there is room; at most twice as long.
const GENERATION: Duration = Duration::from_secs(2);
/// Denials of one generation.
const CAPACITY: usize = 10_000;

/// Why a read was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// There was no such session.
    NotFound,
    /// It was another user's.
    NotOwner,
}

/// Who was denied which session a moment ago, so that asking again and again costs the database nothing. Remembered by session *and*
/// user, whether there is such a session or not: the two must look alike also to whoever counts or measures.
pub(crate) struct DeniedReads {
    clock: Arc<dyn MonotonicClock>,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    began: Monotonic,
    present: HashMap<GetSession, Denial>,
    past: HashMap<GetSession, Denial>,
}

impl DeniedReads {
    pub(crate) fn new(clock: Arc<dyn MonotonicClock>) -> Self {
        let generations = Generations { began: clock.now(), ..Generations::default() };
        Self { clock, generations: Mutex::new(generations) }
    }

    /// Why this was denied a moment ago, if it was.
    pub(crate) fn recall(&self, query: &GetSession) -> Option<Denial> {
        self.with(|generations| generations.present.get(query).or_else(|| generations.past.get(query)).copied())
    }

    /// Remembers that this was denied.
    pub(crate) fn remember(&self, query: GetSession, denial: Denial) {
        self.with(|generations| {
            generations.present.insert(query, denial);
        });
    }

    fn with<T>(&self, what: impl FnOnce(&mut Generations) -> T) -> T {
        let now = self.clock.now();
        // Nothing panics while it holds it.
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= generations.began.after(2 * GENERATION) {
            *generations = Generations { began: now, ..Generations::default() };
        } else if now >= generations.began.after(GENERATION) || generations.present.len() >= CAPACITY {
            generations.past = std::mem::take(&mut generations.present);
            generations.began = now;
        }
        what(&mut generations)
    }
}

#[cfg(test)]
mod tests {
    use domain::SessionId;
    use testkit::{SteppingClock, fixtures};
    use uuid::Uuid;

    use super::*;

    fn query(n: usize) -> GetSession {
        GetSession { session_id: SessionId(Uuid::from_u128(n as u128)), user_id: fixtures::another_user() }
    }

    #[test]
    fn a_denial_is_remembered_for_seconds_and_for_nobody_else() {
        let clock = Arc::new(SteppingClock::default());
        let denied = DeniedReads::new(clock.clone());
        clock.advance(GENERATION - Duration::from_millis(1));
        denied.remember(query(1), Denial::NotOwner);
        assert_eq!(denied.recall(&query(1)), Some(Denial::NotOwner));
        assert_eq!(denied.recall(&GetSession { user_id: fixtures::session().user_id, ..query(1) }), None);
        clock.advance(GENERATION);
        denied.remember(query(2), Denial::NotFound);
        assert_eq!(denied.recall(&query(1)), Some(Denial::NotOwner));
        clock.advance(GENERATION);
        assert_eq!(denied.recall(&query(1)), None);
        assert_eq!(denied.recall(&query(2)), Some(Denial::NotFound));
        clock.advance(3 * GENERATION);
        assert_eq!(denied.recall(&query(2)), None);
    }

    #[test]
    fn there_are_never_more_than_two_generations_of_them() {
        let denied = DeniedReads::new(Arc::new(SteppingClock::default()));
        for n in 0..5 * CAPACITY {
            denied.remember(query(n), Denial::NotFound);
        }
        let generations = denied.generations.lock().unwrap();
        assert!(generations.present.len() <= CAPACITY && generations.past.len() <= CAPACITY);
        drop(generations);
        assert_eq!(denied.recall(&query(5 * CAPACITY - 1)), Some(Denial::NotFound));
    }
}
