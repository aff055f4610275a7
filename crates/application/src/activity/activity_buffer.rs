//! Activity of sessions that is not persisted yet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::coherence::{MonotonicInstant, ReadVersion};
use domain::ports::{MonotonicClock, SessionKey};
use domain::{Session, SessionId, Touch, UserId};

/// Parts of the buffer with a lock each.
const SHARDS: usize = 16;
/// Sessions that a shard has at most; about 250 bytes each.
const SHARD_CAPACITY: usize = 16_384;
/// How long a failed write waits for its next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Records activity of sessions in memory, until it is written.
///
/// The first activity of a session in a window is due to be written at once. What follows in the
/// window is kept until its end, as one. A window is never longer than a tenth of the time-out that
/// activity extends, so the store is never so far behind that it could take an active session for
/// an idle one (`docs/security.md`).
///
/// Writes are scheduled by the monotonic clock: a wall clock that is set back delays none.
pub struct ActivityBuffer {
    window: TimeDelta,
    clock: Arc<dyn MonotonicClock>,
    shards: [Mutex<Shard>; SHARDS],
    dropped: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<SessionId, Entry>,
    /// When to visit which entry. An item whose time is no longer that of its entry is void.
    due: BinaryHeap<Reverse<(MonotonicInstant, SessionId)>>,
    /// How many entries have activity that is not persisted.
    unpersisted: usize,
}

struct Entry {
    /// All activity since the buffer has the session.
    latest: Touch,
    /// The first activity that is dirty: neither persisted nor being written. `None`: there is
    /// none.
    dirty_since: Option<DateTime<Utc>>,
    /// The first activity that is being written. Then nothing is due.
    in_flight_since: Option<DateTime<Utc>>,
    /// The time of the next write. Without dirty activity by then, the entry is dropped.
    due_at: MonotonicInstant,
    window: Duration,
    expires_at: DateTime<Utc>,
    idle_timeout: Option<TimeDelta>,
    user_id: UserId,
    /// What the read of the session had seen: whether it was revoked since is asked with it.
    version: Option<ReadVersion>,
}

impl Entry {
    fn is_live(&self, now: DateTime<Utc>) -> bool {
        now < self.expires_at
            && self.idle_timeout.is_none_or(|timeout| now < self.latest.last_at + timeout)
    }

    fn is_persisted(&self) -> bool {
        self.dirty_since.is_none() && self.in_flight_since.is_none()
    }

    fn add(&mut self, touch: Touch) {
        self.latest = self.latest.merge(touch);
        self.dirty_since =
            Some(self.dirty_since.map_or(touch.first_at, |since| since.min(touch.first_at)));
    }
}

impl Shard {
    /// Records activity of a session that has an entry. Returns whether it has.
    fn add(&mut self, touch: Touch) -> bool {
        let Some(entry) = self.entries.get_mut(&touch.session_id) else { return false };
        self.unpersisted += usize::from(entry.is_persisted());
        entry.add(touch);
        true
    }

    fn remove(&mut self, id: SessionId) {
        let removed = self.entries.remove(&id);
        self.unpersisted -= usize::from(removed.is_some_and(|entry| !entry.is_persisted()));
    }

    /// Makes an entry due at this time, and keeps the heap at most twice as large as the entries:
    /// those that were removed leave void items behind.
    fn schedule(&mut self, id: SessionId, at: MonotonicInstant) {
        let Self { entries, due, .. } = self;
        if due.len() > 2 * entries.len() + 16 {
            due.retain(|Reverse((at, id))| {
                entries.get(id).is_some_and(|entry| entry.due_at == *at)
            });
        }
        if let Some(entry) = entries.get_mut(&id) {
            entry.due_at = at;
            due.push(Reverse((at, id)));
        }
    }

    /// Drops the entries whose activity is persisted: their sessions are then written more often
    /// than they need to be. Returns whether there is room.
    fn make_room(&mut self) -> bool {
        if self.unpersisted < self.entries.len() {
            self.entries.retain(|_, entry| !entry.is_persisted());
        }
        self.entries.len() < SHARD_CAPACITY
    }
}

impl ActivityBuffer {
    /// Creates an empty buffer with windows of at most this length.
    pub fn new(window: TimeDelta, clock: Arc<dyn MonotonicClock>) -> Self {
        Self { window, clock, shards: Default::default(), dropped: AtomicU64::new(0) }
    }

    /// Returns how often activity was not recorded, because there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Records that a session, which is live at `now` and was read with this version, is active
    /// then.
    pub(crate) fn record(
        &self,
        session: &Session,
        version: Option<&ReadVersion>,
        ip_address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) {
        let touch = Touch { session_id: session.id, first_at: now, last_at: now, ip_address };
        let extended = [session.idle_timeout, session.renewal].into_iter().flatten().min();
        let window = extended.map_or(self.window, |extended| self.window.min(extended / 10));
        let window = window.to_std().unwrap_or_default();
        let due_at = self.clock.now();
        let mut shard = self.shard(session.id);
        if shard.add(touch) {
            if let Some(entry) = shard.entries.get_mut(&session.id) {
                // The session was read again: it may have been extended.
                entry.window = window;
                entry.expires_at = session.expires_at;
                entry.idle_timeout = session.idle_timeout;
                entry.version = version.cloned();
            }
            return;
        }
        if shard.entries.len() >= SHARD_CAPACITY && !shard.make_room() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let entry = Entry {
            latest: touch,
            dirty_since: Some(now),
            in_flight_since: None,
            due_at,
            window,
            expires_at: session.expires_at,
            idle_timeout: session.idle_timeout,
            user_id: session.user_id,
            version: version.cloned(),
        };
        shard.entries.insert(session.id, entry);
        shard.unpersisted += 1;
        shard.schedule(session.id, due_at);
    }

    /// Records activity of a session that the buffer has, that is live by what it has, and that is
    /// servable. Returns `false` where the store has to be asked: the buffer is a cache of live
    /// sessions like any other.
    pub(crate) fn record_if_buffered(
        &self,
        id: SessionId,
        ip_address: Option<IpAddr>,
        now: DateTime<Utc>,
        is_servable: impl FnOnce(UserId, &ReadVersion) -> bool,
    ) -> bool {
        let mut shard = self.shard(id);
        let may_record = |entry: &Entry| {
            entry.is_live(now)
                && entry.version.as_ref().is_some_and(|version| is_servable(entry.user_id, version))
        };
        shard.entries.get(&id).is_some_and(may_record)
            && shard.add(Touch { session_id: id, first_at: now, last_at: now, ip_address })
    }

    /// Returns the session with the activity that only the buffer has.
    pub(crate) fn with_pending_activity(&self, session: Arc<Session>) -> Arc<Session> {
        let latest = self.shard(session.id).entries.get(&session.id).map(|entry| entry.latest);
        match latest {
            Some(touch) if touch.last_at > session.last_activity_at => {
                let mut refreshed = Session::clone(&session);
                if refreshed.touch(&touch) { Arc::new(refreshed) } else { session }
            }
            _ => session,
        }
    }

    /// Removes sessions that were revoked.
    pub(crate) fn remove(&self, revoked: &[SessionKey]) {
        for session in revoked {
            self.shard(session.id).remove(session.id);
        }
    }

    /// Takes the dirty activity that is due.
    pub(super) fn take_due(&self) -> TakenActivity<'_> {
        let now = self.clock.now();
        let mut touches = Vec::new();
        for shard in 0..SHARDS {
            let mut shard = self.lock(shard);
            while let Some(Reverse((at, id))) =
                shard.due.peek().copied().filter(|Reverse((at, _))| *at <= now)
            {
                shard.due.pop();
                let Some(entry) = shard.entries.get_mut(&id).filter(|entry| entry.due_at == at)
                else {
                    continue;
                };
                if entry.in_flight_since.is_some() {
                    // It is scheduled again once the outcome of the write is known.
                    continue;
                }
                match entry.dirty_since.take() {
                    Some(first_at) => {
                        entry.in_flight_since = Some(first_at);
                        touches.push(Touch { first_at, ..entry.latest });
                    }
                    None => shard.remove(id),
                }
            }
        }
        TakenActivity::new(self, touches)
    }

    /// Takes all dirty activity, due or not.
    pub(super) fn take_all(&self) -> TakenActivity<'_> {
        let mut touches = Vec::new();
        for shard in 0..SHARDS {
            for entry in self.lock(shard).entries.values_mut() {
                if let Some(first_at) = entry.dirty_since.take() {
                    let since = entry.in_flight_since.get_or_insert(first_at);
                    *since = (*since).min(first_at);
                    touches.push(Touch { first_at, ..entry.latest });
                }
            }
        }
        TakenActivity::new(self, touches)
    }

    /// Notes that these were written, or were not and are to be tried again soon.
    fn settle(&self, touches: &[Touch], is_written: bool) {
        let now = self.clock.now();
        for touch in touches {
            let id = touch.session_id;
            let mut shard = self.shard(id);
            // One that was removed meanwhile was revoked.
            let Some(entry) = shard.entries.get_mut(&id) else { continue };
            let was_persisted = entry.is_persisted();
            entry.in_flight_since = None;
            // Never at `now` again, however short the window.
            let pause =
                if is_written { entry.window.max(Duration::from_micros(1)) } else { RETRY_AFTER };
            if !is_written {
                entry.add(*touch);
            }
            let is_persisted = entry.is_persisted();
            shard.unpersisted += usize::from(was_persisted);
            shard.unpersisted -= usize::from(is_persisted);
            shard.schedule(id, now.saturating_add(pause));
        }
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, Shard> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        self.lock(hash as usize % SHARDS)
    }

    /// No method panics halfway through a change, so a poisoned shard is a whole shard.
    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Activity that was taken to be written. What is not reported as written when this is dropped is
/// tried again soon.
pub(super) struct TakenActivity<'a> {
    buffer: &'a ActivityBuffer,
    touches: Vec<Touch>,
    settled: usize,
    batch: usize,
}

impl<'a> TakenActivity<'a> {
    /// In the order of ids: several nodes may write the same sessions, and one order prevents
    /// deadlocks.
    fn new(buffer: &'a ActivityBuffer, mut touches: Vec<Touch>) -> Self {
        touches.sort_unstable_by_key(|touch| touch.session_id);
        Self { buffer, touches, settled: 0, batch: 0 }
    }

    /// Returns the next touches to write, at most so many; `None`: all are written.
    pub(super) fn next_batch(&mut self, limit: usize) -> Option<&[Touch]> {
        self.batch = (self.touches.len() - self.settled).min(limit);
        (self.batch > 0).then(|| &self.touches[self.settled..self.settled + self.batch])
    }

    /// The store has written the last batch.
    pub(super) fn batch_is_written(&mut self) {
        let end = self.settled + std::mem::take(&mut self.batch);
        self.buffer.settle(&self.touches[self.settled..end], true);
        self.settled = end;
    }

    /// The store has not written the last batch, or the outcome is unknown: it is tried again soon.
    pub(super) fn batch_failed(&mut self) {
        let end = self.settled + std::mem::take(&mut self.batch);
        self.buffer.settle(&self.touches[self.settled..end], false);
        self.settled = end;
    }
}

impl Drop for TakenActivity<'_> {
    fn drop(&mut self) {
        self.buffer.settle(&self.touches[self.settled..], false);
    }
}

#[cfg(test)]
mod tests {
    use testkit::{SteppingClock, fixtures};
    use uuid::Uuid;

    use super::*;

    struct Fixture {
        clock: Arc<SteppingClock>,
        buffer: ActivityBuffer,
    }

    fn fixture() -> Fixture {
        let clock = Arc::new(SteppingClock::default());
        Fixture { buffer: ActivityBuffer::new(TimeDelta::seconds(60), clock.clone()), clock }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        fixtures::now() + TimeDelta::seconds(seconds)
    }

    fn servable(_: UserId, _: &ReadVersion) -> bool {
        true
    }

    fn spans(touches: &[Touch]) -> Vec<(i64, i64)> {
        let second = |time: DateTime<Utc>| (time - fixtures::now()).num_seconds();
        touches.iter().map(|touch| (second(touch.first_at), second(touch.last_at))).collect()
    }

    impl Fixture {
        /// The monotonic clock, in seconds since the test began.
        fn set_clock(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds) - self.clock.now().0);
        }

        fn record(&self, session: &Session, seconds: i64) {
            self.buffer.record(session, Some(&fixtures::read_version()), None, at(seconds));
        }

        /// Writes what is due, and returns it.
        fn write_due(&self) -> Vec<(i64, i64)> {
            let mut taken = self.buffer.take_due();
            let written = taken.next_batch(usize::MAX).map(spans).unwrap_or_default();
            taken.batch_is_written();
            written
        }

        fn heap_items(&self) -> usize {
            (0..SHARDS).map(|shard| self.buffer.lock(shard).due.len()).sum()
        }

        fn unpersisted(&self) -> usize {
            let count = |shard: usize| {
                let shard = self.buffer.lock(shard);
                assert_eq!(
                    shard.unpersisted,
                    shard.entries.values().filter(|entry| !entry.is_persisted()).count()
                );
                shard.unpersisted
            };
            (0..SHARDS).map(count).sum()
        }
    }

    #[test]
    fn first_activity_of_a_window_is_due_at_once_and_what_follows_at_its_end() {
        let f = fixture();
        let session = fixtures::session();
        f.record(&session, 0);
        assert_eq!(f.write_due(), [(0, 0)]);
        for second in 1..50 {
            f.set_clock(second);
            let address = "192.0.2.9".parse().ok();
            assert!(f.buffer.record_if_buffered(session.id, address, at(second as i64), servable));
            assert_eq!(f.write_due(), []);
        }
        f.set_clock(60);
        let mut taken = f.buffer.take_due();
        let due = taken.next_batch(10).unwrap();
        assert_eq!((spans(due), due[0].ip_address), (vec![(1, 49)], "192.0.2.9".parse().ok()));
        taken.batch_is_written();
        assert_eq!(taken.next_batch(10), None);
        drop(taken);
        // A window without activity, and the entry is dropped.
        f.set_clock(120);
        assert_eq!(f.write_due(), []);
        assert!(!f.buffer.record_if_buffered(session.id, None, at(121), servable));
        assert!(f.buffer.shard(session.id).entries.is_empty() && f.heap_items() == 0);
    }

    #[test]
    fn window_is_at_most_a_tenth_of_what_activity_extends() {
        let minute = Some(TimeDelta::minutes(1));
        let bare = fixtures::bare_session();
        for session in [
            Session { idle_timeout: minute, ..bare.clone() },
            Session { renewal: minute, idle_timeout: Some(TimeDelta::hours(1)), ..bare },
        ] {
            let f = fixture();
            f.record(&session, 0);
            f.write_due();
            f.record(&session, 1);
            f.set_clock(5);
            assert_eq!(f.write_due(), []);
            f.set_clock(6);
            assert_eq!(f.write_due(), [(1, 1)]);
        }
    }

    /// Whether the store refused it, or the writer was cancelled.
    #[test]
    fn activity_that_was_not_written_is_tried_again_with_what_came_since() {
        let f = fixture();
        let session = fixtures::session();
        f.record(&session, 0);
        let taken = f.buffer.take_due();
        f.record(&session, 1);
        assert_eq!(f.unpersisted(), 1);
        drop(taken);
        assert_eq!((f.write_due(), f.unpersisted()), (vec![], 1));
        f.set_clock(1);
        assert_eq!((f.write_due(), f.unpersisted()), (vec![(0, 1)], 0));
        assert_eq!(f.buffer.take_all().touches, []);
    }

    /// An outage of the store of any length costs one item per session.
    #[test]
    fn failed_writes_leave_nothing_behind() {
        let f = fixture();
        for second in 0..120 {
            f.set_clock(second);
            for n in 0..100 {
                f.record(&fixtures::session_number(n), second as i64);
            }
            drop(f.buffer.take_due());
            assert!(f.heap_items() <= 100, "{} items after {second} s", f.heap_items());
        }
        f.set_clock(121);
        assert_eq!(f.write_due().len(), 100);
        assert_eq!((f.unpersisted(), f.heap_items()), (0, 100));
    }

    #[test]
    fn activity_that_is_being_written_is_neither_dropped_nor_written_twice() {
        let f = fixture();
        let session = fixtures::session();
        f.record(&session, 0);
        let mut taken = f.buffer.take_due();
        f.set_clock(60);
        f.record(&session, 60);
        assert_eq!(f.buffer.take_due().touches, [], "until the outcome is known");
        assert!(f.buffer.shard(session.id).make_room());
        assert_eq!(f.buffer.shard(session.id).entries.len(), 1);
        taken.next_batch(10);
        taken.batch_is_written();
        drop(taken);
        f.set_clock(120);
        assert_eq!(f.write_due(), [(60, 60)]);
    }

    #[test]
    fn all_activity_can_be_taken_and_revoked_sessions_are_removed() {
        let f = fixture();
        let [a, b] = [1, 2].map(fixtures::session_number);
        f.record(&a, 0);
        f.write_due();
        f.record(&a, 5);
        f.record(&b, 6);
        let all = f.buffer.take_all();
        let mut found = spans(&all.touches);
        found.sort_unstable();
        assert_eq!(found, [(5, 5), (6, 6)]);
        assert_eq!(f.buffer.take_all().touches, []);
        f.buffer.remove(&[SessionKey { id: a.id, user_id: a.user_id }]);
        assert_eq!(f.unpersisted(), 1);
        drop(all);
        f.set_clock(100);
        assert_eq!((f.write_due(), f.unpersisted()), (vec![(6, 6)], 0));
    }

    #[test]
    fn session_is_returned_with_the_activity_that_is_not_persisted() {
        let f = fixture();
        let clock_says = at(500);
        let session =
            Arc::new(Session { idle_timeout: Some(TimeDelta::minutes(10)), ..fixtures::session() });
        assert!(Arc::ptr_eq(&f.buffer.with_pending_activity(session.clone()), &session));
        f.record(&session, 500);
        let refreshed = f.buffer.with_pending_activity(session.clone());
        assert_eq!(refreshed.last_activity_at, clock_says);
        assert!(refreshed.is_live(at(1000)) && !session.is_live(at(1000)));
        // Idle by what the buffer has: the store is to be asked.
        assert!(f.buffer.record_if_buffered(session.id, None, at(1099), servable));
        assert!(!f.buffer.record_if_buffered(session.id, None, at(1699), servable));
    }

    #[test]
    fn buffer_is_bounded() {
        let f = fixture();
        let count = 2 * SHARDS * SHARD_CAPACITY;
        let mut session = fixtures::bare_session();
        for n in 0..count as u64 {
            session.id = SessionId(Uuid::from_u128(n.into()));
            f.record(&session, 0);
        }
        let kept = f.write_due().len();
        assert!(
            kept <= SHARDS * SHARD_CAPACITY && kept as u64 + f.buffer.dropped() == count as u64
        );
        // Persisted ones make room.
        f.record(&fixtures::session_number(count as u64), 1);
        assert_eq!(f.write_due().len(), 1);
        assert!(f.heap_items() <= 2 * SHARDS * SHARD_CAPACITY + 16 * SHARDS);
    }

    #[test]
    fn session_that_is_not_servable_is_not_recorded_from_memory() {
        let f = fixture();
        let session = fixtures::session();
        f.record(&session, 0);
        let record = |second, is_servable: &dyn Fn(UserId) -> bool| {
            f.buffer.record_if_buffered(session.id, None, at(second), |user_id, version| {
                assert_eq!(*version, fixtures::read_version());
                is_servable(user_id)
            })
        };
        assert!(record(1, &|user_id| user_id == session.user_id));
        assert!(!record(2, &|_| false));
        assert_eq!(f.write_due(), [(0, 1)]);
        f.buffer.record(&session, None, None, at(3));
        assert!(
            !f.buffer.record_if_buffered(session.id, None, at(4), servable),
            "the read version is unknown"
        );
    }

    /// A sliding session that was read again expires later, and so does its entry: otherwise each
    /// call would read the store.
    #[test]
    fn entry_takes_over_what_a_later_read_says() {
        let f = fixture();
        let session = Session { expires_at: at(3600), ..fixtures::session() };
        f.record(&session, 0);
        assert!(!f.buffer.record_if_buffered(session.id, None, at(3600), servable));
        f.record(&Session { expires_at: at(7200), ..session.clone() }, 3600);
        assert!(f.buffer.record_if_buffered(session.id, None, at(7199), servable));
    }
}
