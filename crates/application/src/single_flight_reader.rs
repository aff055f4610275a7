use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ports::{PortError, SessionReader};
use domain::{Session, SessionId};
use fail::fail_point;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::RevocationGuard;

/// Reads each session once at a time, however many ask for it: a burst of questions about one session is one read of the database.
///
/// What somebody else's read answers, which began before this question was asked, is as old as what a cache answers: it has to pass
/// the guard. Whoever it does not let through reads again, together with everybody else who has to.
pub struct SingleFlightReader {
    reader: Arc<dyn SessionReader>,
    guard: Arc<RevocationGuard>,
    flights: Arc<Flights>,
}

/// A read that is under way. Whoever waits for it drives it, so that it goes on if the one who began it goes away.
type Flight = Shared<BoxFuture<'static, Answer>>;
type Answer = Result<Option<Arc<Session>>, Arc<PortError>>;

/// The reads that are under way: no more than there are questions.
#[derive(Default)]
struct Flights(Mutex<Departures>);

#[derive(Default)]
struct Departures {
    count: u64,
    under_way: HashMap<SessionId, (u64, WeakShared<BoxFuture<'static, Answer>>)>,
}

impl SingleFlightReader {
    /// Over this reader, with this guard.
    pub fn new(reader: Arc<dyn SessionReader>, guard: Arc<RevocationGuard>) -> Self {
        Self { reader, guard, flights: Arc::default() }
    }

    /// The read of this session that is under way, or a new one; and whether it is new.
    fn board(&self, session_id: SessionId) -> (Flight, bool) {
        let mut departures = self.flights.lock();
        if let Some((_, flight)) = departures.under_way.get(&session_id)
            && let Some(flight) = flight.upgrade()
        {
            return (flight, false);
        }
        departures.count += 1;
        let landing = Landing { flights: self.flights.clone(), session_id, number: departures.count };
        let reader = self.reader.clone();
        let read = async move {
            let answer = reader.find_by_id(session_id).await;
            // Whoever asks from now on asks anew.
            drop(landing);
            answer.map(|session| session.map(Arc::new)).map_err(Arc::new)
        };
        let flight = read.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            let number = departures.count;
            departures.under_way.insert(session_id, (number, weak));
        }
        (flight, true)
    }

    /// Whether what somebody else's read answered may be answered here.
    fn lets_through(&self, answer: &Answer) -> bool {
        fail_point!("bug-joins-unchecked", |_| true);
        match answer {
            // The end of a session is final, however long ago it was read.
            Ok(Some(session)) => session.is_revoked() || self.guard.lets_through(session),
            Ok(None) | Err(_) => true,
        }
    }
}

#[async_trait]
impl SessionReader for SingleFlightReader {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        let (flight, is_new) = self.board(session_id);
        let mut answer = flight.await;
        if !is_new && !self.lets_through(&answer) {
            // The one that was joined is over, so whichever is under way now began after this question was asked.
            answer = self.board(session_id).0.await;
        }
        match answer {
            Ok(session) => Ok(session.map(Arc::unwrap_or_clone)),
            Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(PortError::shared)),
        }
    }
}

impl Flights {
    /// No method panics while it holds it.
    fn lock(&self) -> MutexGuard<'_, Departures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a read off the board when it is over, or when nobody waits for it any more.
struct Landing {
    flights: Arc<Flights>,
    session_id: SessionId,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut departures = self.flights.lock();
        if departures.under_way.get(&self.session_id).is_some_and(|(number, _)| *number == self.number) {
            departures.under_way.remove(&self.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use adapters_memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository};
    use domain::ports::SessionRepository;
    use domain::{Actor, Revocation};
    use testkit::{SteppingClock, fixtures};
    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::*;

    /// Counts reads, and holds each back after it has read until it is let go.
    struct Held {
        repo: MemorySessionRepository,
        begun: AtomicUsize,
        let_go: Semaphore,
    }

    #[async_trait]
    impl SessionReader for Held {
        async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let answer = self.repo.find_by_id(session_id).await;
            self.let_go.acquire().await.unwrap().forget();
            // A database takes its time: whoever is about to ask has asked by then.
            tokio::time::sleep(Duration::from_millis(1)).await;
            answer
        }
    }

    struct Setting {
        database: MemoryDatabase,
        held: Arc<Held>,
        guard: Arc<RevocationGuard>,
        reader: Arc<SingleFlightReader>,
    }

    async fn setting() -> Setting {
        let database = MemoryDatabase::default();
        let repo = MemorySessionRepository::new(database.clone());
        repo.insert(&fixtures::session(), None).await.unwrap();
        let feed = MemoryRevocationFeed::new(database.clone(), MemoryNodes::default(), Uuid::from_u128(1));
        let (clock, delta) = (Arc::new(SteppingClock::default()), Duration::from_millis(500));
        let guard = Arc::new(RevocationGuard::new(Arc::new(feed), clock, delta));
        let held = Arc::new(Held { repo, begun: AtomicUsize::new(0), let_go: Semaphore::new(0) });
        let reader = Arc::new(SingleFlightReader::new(held.clone(), guard.clone()));
        Setting { database, held, guard, reader }
    }

    type Reading = tokio::task::JoinHandle<Result<Option<Session>, PortError>>;

    impl Setting {
        /// So many questions about one session, all of them waiting.
        async fn ask(&self, times: usize) -> Vec<Reading> {
            let reading = |_| {
                let reader = self.reader.clone();
                tokio::spawn(async move { reader.find_by_id(fixtures::session().id).await })
            };
            let readings = (0..times).map(reading).collect();
            self.settle().await;
            readings
        }

        /// Whoever can go on has done so.
        async fn settle(&self) {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        }

        fn begun(&self) -> usize {
            self.held.begun.load(Ordering::Relaxed)
        }

        async fn revoke(&self) {
            let revocation = Revocation { at: fixtures::now(), reason: None, actor: Some(Actor::Service) };
            let repo = MemorySessionRepository::new(self.database.clone());
            assert_eq!(repo.revoke(&[fixtures::session().id], &revocation).await.unwrap().len(), 1);
        }
    }

    async fn revoked(readings: Vec<Reading>) -> Vec<bool> {
        let mut revoked = Vec::new();
        for reading in readings {
            revoked.push(reading.await.unwrap().unwrap().unwrap().is_revoked());
        }
        revoked
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_one_read() {
        let s = setting().await;
        s.guard.follow().await.unwrap();
        let readings = s.ask(100).await;
        s.held.let_go.add_permits(1);
        assert_eq!(revoked(readings).await, [false; 100]);
        assert_eq!(s.begun(), 1);
        // It is over: the next one is new.
        let next = s.ask(1).await;
        s.held.let_go.add_permits(1);
        revoked(next).await;
        assert_eq!(s.begun(), 2);
        assert!(s.reader.flights.lock().under_way.is_empty());
    }

    /// The first read saw the session live. Then it was ended, that was acknowledged, and a second one asks.
    #[tokio::test(start_paused = true)]
    async fn who_joins_a_read_from_before_an_end_does_not_hear_what_it_saw() {
        let s = setting().await;
        s.guard.follow().await.unwrap();
        let first = s.ask(1).await;
        s.revoke().await;
        s.guard.follow().await.unwrap();
        let later = s.ask(3).await;
        assert_eq!(s.begun(), 1, "they have joined");
        s.held.let_go.add_permits(2);
        assert_eq!(revoked(first).await, [false], "it asked before the end");
        assert_eq!(revoked(later).await, [true; 3]);
        assert_eq!(s.begun(), 2, "one read for all who came later");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_guard_knows_nothing_a_burst_is_two_reads() {
        let s = setting().await;
        let readings = s.ask(100).await;
        s.held.let_go.add_permits(2);
        assert_eq!(revoked(readings).await, [false; 100]);
        assert_eq!(s.begun(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_goes_on_without_the_one_who_began_it_and_ends_with_the_last_who_waits() {
        let s = setting().await;
        s.guard.follow().await.unwrap();
        let mut readings = s.ask(2).await;
        readings.remove(0).abort();
        s.settle().await;
        s.held.let_go.add_permits(1);
        assert_eq!(revoked(readings).await, [false]);
        assert_eq!(s.begun(), 1);

        let abandoned = s.ask(2).await;
        abandoned.iter().for_each(Reading::abort);
        s.settle().await;
        assert!(s.reader.flights.lock().under_way.is_empty());
        let anew = s.ask(1).await;
        s.held.let_go.add_permits(1);
        assert_eq!(revoked(anew).await, [false]);
        assert_eq!(s.begun(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_hear_of_a_failure() {
        let s = setting().await;
        s.database.take_down();
        let readings = s.ask(3).await;
        s.held.let_go.add_permits(1);
        for reading in readings {
            assert!(matches!(reading.await.unwrap(), Err(PortError::Unavailable(_))));
        }
        assert_eq!(s.begun(), 1);
    }
}
