use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use domain::coherence::Stamp;
use domain::ports::EndedSession;
use domain::{Session, SessionId, Touch, UserId};

/// Parts of the buffer with a lock each.
const SHARDS: usize = 16;
/// Sessions that a shard remembers at most; about 130 bytes each.
const SHARD_CAPACITY: usize = 16_384;
/// How long a failed write waits for its next attempt.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(1);

/// The use of sessions that is not written yet.
///
/// The first use of a session in a window is due to be written at once; those that follow in the window are kept until its end, as
/// one. A window is never longer than a tenth of what use puts off, so the store is never so far behind that it could take somebody
/// for idle who is not (`docs/security.md`).
pub struct ActivityBuffer {
    window: TimeDelta,
    shards: [Mutex<Shard>; SHARDS],
    dropped: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<SessionId, Entry>,
    /// When to look at which entry. An item whose moment is no longer that of its entry is void.
    due: BinaryHeap<Reverse<(DateTime<Utc>, SessionId)>>,
    /// How many entries have something to be written.
    unwritten: usize,
}

struct Entry {
    /// All use since the buffer heard of the session.
    latest: Touch,
    /// The first use that is not written; `None`: all of it is.
    unwritten_since: Option<DateTime<Utc>>,
    /// The moment of the next write; without anything to write by then, the entry is forgotten.
    due_at: DateTime<Utc>,
    window: TimeDelta,
    expires_at: DateTime<Utc>,
    idle_timeout: Option<TimeDelta>,
    user_id: UserId,
    /// When the session was read: whether it was revoked since is for the guard to say.
    stamp: Stamp,
}

impl Entry {
    /// Takes over what the session says that was just read.
    fn learn(&mut self, session: &Session, window: TimeDelta) {
        self.window = window;
        self.expires_at = session.expires_at;
        self.idle_timeout = session.idle_timeout;
        self.stamp = session.stamp;
    }

    fn is_live(&self, now: DateTime<Utc>) -> bool {
        now < self.expires_at && self.idle_timeout.is_none_or(|timeout| now < self.latest.last_at + timeout)
    }
}

impl Shard {
    /// Adds use to an entry, which has to be there.
    fn add(&mut self, touch: Touch) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&touch.session_id)?;
        entry.latest = entry.latest.merge(touch);
        self.unwritten += usize::from(entry.unwritten_since.is_none());
        entry.unwritten_since = Some(entry.unwritten_since.map_or(touch.first_at, |since| since.min(touch.first_at)));
        Some(entry)
    }

    /// Keeps the heap at most twice as large as the entries: each failed write leaves an item behind that is void.
    fn drop_void_items(&mut self) {
        if self.due.len() > 2 * self.entries.len() + 16 {
            let Self { entries, due, .. } = self;
            due.retain(|Reverse((at, id))| entries.get(id).is_some_and(|entry| entry.due_at == *at));
        }
    }

    /// What is written may be forgotten: its sessions are then written more often than they need to be.
    fn make_room(&mut self) -> bool {
        if self.unwritten < self.entries.len() {
            self.entries.retain(|_, entry| entry.unwritten_since.is_some());
        }
        self.entries.len() < SHARD_CAPACITY
    }
}

impl ActivityBuffer {
    /// An empty buffer with windows of at most this length.
    pub fn new(window: TimeDelta) -> Self {
        Self { window, shards: Default::default(), dropped: AtomicU64::new(0) }
    }

    /// How often use was not taken note of, because there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes note that a session, which is live at `now`, was used then.
    pub(crate) fn record(&self, session: &Session, ip_address: Option<IpAddr>, now: DateTime<Utc>) {
        let touch = Touch { session_id: session.id, first_at: now, last_at: now, ip_address };
        let put_off = [session.idle_timeout, session.renewal].into_iter().flatten().min();
        let window = put_off.map_or(self.window, |put_off| self.window.min(put_off / 10));
        let mut shard = self.shard(session.id);
        if let Some(entry) = shard.add(touch) {
            entry.learn(session, window);
            return;
        }
        if shard.entries.len() >= SHARD_CAPACITY && !shard.make_room() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let entry = Entry {
            latest: touch,
            unwritten_since: Some(now),
            due_at: now,
            window,
            expires_at: session.expires_at,
            idle_timeout: session.idle_timeout,
            user_id: session.user_id,
            stamp: session.stamp,
        };
        shard.entries.insert(session.id, entry);
        shard.unwritten += 1;
        shard.due.push(Reverse((now, session.id)));
    }

    /// The same for a session that the buffer has, and that is live by what it has. The buffer is a cache of live sessions, so
    /// `is_servable` is asked, as for every other; `false` where the store has to be.
    pub(crate) fn record_known(
        &self,
        id: SessionId,
        ip_address: Option<IpAddr>,
        now: DateTime<Utc>,
        is_servable: impl FnOnce(UserId, Stamp) -> bool,
    ) -> bool {
        let mut shard = self.shard(id);
        let known =
            shard.entries.get(&id).is_some_and(|entry| entry.is_live(now) && is_servable(entry.user_id, entry.stamp));
        known && shard.add(Touch { session_id: id, first_at: now, last_at: now, ip_address }).is_some()
    }

    /// The session with the use that only the buffer knows of.
    pub(crate) fn refresh(&self, session: Arc<Session>) -> Arc<Session> {
        let latest = self.shard(session.id).entries.get(&session.id).map(|entry| entry.latest);
        match latest {
            Some(touch) if touch.last_at > session.last_activity_at => {
                let mut refreshed = Session::clone(&session);
                if refreshed.touch(&touch) { Arc::new(refreshed) } else { session }
            }
            _ => session,
        }
    }

    /// Forgets sessions that were ended.
    pub(crate) fn forget(&self, ended: &[EndedSession]) {
        for session in ended {
            let mut shard = self.shard(session.id);
            let forgotten = shard.entries.remove(&session.id);
            shard.unwritten -= usize::from(forgotten.is_some_and(|entry| entry.unwritten_since.is_some()));
        }
    }

    /// Takes what is due at `now` out of the buffer, to be written.
    pub(crate) fn take_due(&self, now: DateTime<Utc>) -> Vec<Touch> {
        let mut taken = Vec::new();
        for shard in 0..SHARDS {
            let mut shard = self.lock(shard);
            let Shard { entries, due, unwritten } = &mut *shard;
            while let Some(Reverse((at, id))) = due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
                due.pop();
                let Some(entry) = entries.get_mut(&id).filter(|entry| entry.due_at == at) else { continue };
                match entry.unwritten_since.take() {
                    Some(first_at) => {
                        *unwritten -= 1;
                        taken.push(Touch { first_at, ..entry.latest });
                        // Never at `now` again, however short the window.
                        entry.due_at = now + entry.window.max(TimeDelta::microseconds(1));
                        due.push(Reverse((entry.due_at, id)));
                    }
                    None => {
                        entries.remove(&id);
                    }
                }
            }
        }
        taken
    }

    /// Takes all that is not written out of the buffer, due or not.
    pub(crate) fn take_all(&self) -> Vec<Touch> {
        let mut taken = Vec::new();
        for shard in 0..SHARDS {
            let mut shard = self.lock(shard);
            shard.unwritten = 0;
            for entry in shard.entries.values_mut() {
                taken.extend(entry.unwritten_since.take().map(|first_at| Touch { first_at, ..entry.latest }));
            }
        }
        taken
    }

    /// Puts back what could not be written, to be tried again soon.
    pub(crate) fn put_back(&self, touches: &[Touch], now: DateTime<Utc>) {
        let due_at = now + RETRY_AFTER;
        for touch in touches {
            let mut shard = self.shard(touch.session_id);
            // Whatever was forgotten meanwhile was ended, or had to make room.
            let Some(entry) = shard.add(*touch) else { continue };
            entry.due_at = due_at;
            shard.due.push(Reverse((due_at, touch.session_id)));
            shard.drop_void_items();
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

#[cfg(test)]
mod tests {
    use testkit::fixtures;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        fixtures::now() + TimeDelta::seconds(seconds)
    }

    fn servable(_: UserId, _: Stamp) -> bool {
        true
    }

    fn spans(touches: &[Touch]) -> Vec<(i64, i64)> {
        let second = |moment: DateTime<Utc>| (moment - fixtures::now()).num_seconds();
        touches.iter().map(|touch| (second(touch.first_at), second(touch.last_at))).collect()
    }

    #[test]
    fn the_first_use_of_a_window_is_due_at_once_and_the_rest_at_its_end() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let session = fixtures::session();
        buffer.record(&session, None, at(0));
        assert_eq!(spans(&buffer.take_due(at(0))), [(0, 0)]);
        for second in 1..50 {
            assert!(buffer.record_known(session.id, "192.0.2.9".parse().ok(), at(second), servable));
            assert_eq!(buffer.take_due(at(second)), []);
        }
        let due = buffer.take_due(at(60));
        assert_eq!((spans(&due), due[0].ip_address), (vec![(1, 49)], "192.0.2.9".parse().ok()));
        // A window without use, and the session is forgotten.
        assert_eq!(buffer.take_due(at(120)), []);
        assert!(!buffer.record_known(session.id, None, at(121), servable));
        assert!(buffer.shard(session.id).entries.is_empty() && buffer.shard(session.id).due.is_empty());
    }

    #[test]
    fn a_window_is_at_most_a_tenth_of_what_use_puts_off() {
        let minute = Some(TimeDelta::minutes(1));
        let bare = fixtures::bare_session();
        for session in [
            Session { idle_timeout: minute, ..bare.clone() },
            Session { renewal: minute, idle_timeout: Some(TimeDelta::hours(1)), ..bare },
        ] {
            let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
            buffer.record(&session, None, at(0));
            buffer.take_due(at(0));
            buffer.record(&session, None, at(1));
            assert_eq!(buffer.take_due(at(5)), []);
            assert_eq!(spans(&buffer.take_due(at(6))), [(1, 1)]);
        }
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_with_what_came_since() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let session = fixtures::session();
        buffer.record(&session, None, at(0));
        let taken = buffer.take_due(at(0));
        buffer.record(&session, None, at(1));
        buffer.put_back(&taken, at(2));
        assert_eq!(buffer.take_due(at(2)), []);
        assert_eq!(spans(&buffer.take_due(at(3))), [(0, 1)]);
        assert_eq!(buffer.take_all(), []);
    }

    #[test]
    fn everything_can_be_taken_and_ended_sessions_are_forgotten() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let [a, b] = [1, 2].map(fixtures::session_number);
        buffer.record(&a, None, at(0));
        buffer.take_due(at(0));
        buffer.record(&a, None, at(5));
        buffer.record(&b, None, at(6));
        let mut all = buffer.take_all();
        all.sort_by_key(|touch| touch.session_id);
        assert_eq!(spans(&all), [(5, 5), (6, 6)]);
        assert_eq!(buffer.take_all(), []);

        buffer.forget(&[EndedSession { id: a.id, user_id: a.user_id }]);
        buffer.put_back(&all, at(7));
        assert_eq!(spans(&buffer.take_due(at(100))), [(6, 6)]);
    }

    #[test]
    fn a_session_is_answered_with_the_use_that_is_not_written_yet() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let session = Arc::new(Session { idle_timeout: Some(TimeDelta::minutes(10)), ..fixtures::session() });
        assert!(Arc::ptr_eq(&buffer.refresh(session.clone()), &session));
        buffer.record(&session, None, at(500));
        let refreshed = buffer.refresh(session.clone());
        assert_eq!(refreshed.last_activity_at, at(500));
        assert!(refreshed.is_live(at(1000)) && !session.is_live(at(1000)));
        // Over by what the buffer knows: the store is to be asked.
        assert!(!buffer.record_known(session.id, None, at(1100), servable));
    }

    #[test]
    fn there_is_a_bound_to_what_is_remembered() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let count = 2 * SHARDS * SHARD_CAPACITY;
        for n in 0..count as u64 {
            buffer.record(&fixtures::session_number(n), None, at(0));
        }
        let kept = buffer.take_due(at(0)).len();
        assert!(kept <= SHARDS * SHARD_CAPACITY && kept as u64 + buffer.dropped() == count as u64);
        // Written ones make room.
        buffer.record(&fixtures::session_number(count as u64), None, at(1));
        assert_eq!(buffer.take_due(at(1)).len(), 1);
    }

    #[test]
    fn session_that_is_not_servable_is_not_recorded_from_memory() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let session = fixtures::session();
        buffer.record(&session, None, at(0));
        assert!(buffer.record_known(session.id, None, at(1), |user, _| user == session.user_id));
        assert!(!buffer.record_known(session.id, None, at(2), |_, _| false));
        assert_eq!(spans(&buffer.take_due(at(2))), [(0, 1)]);
    }

    /// A sliding session that was read again has a later end, and so has its entry: otherwise each call would read the store.
    #[test]
    fn entry_learns_what_a_later_read_says() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let session = Session { expires_at: at(3600), ..fixtures::session() };
        buffer.record(&session, None, at(0));
        buffer.record(&Session { expires_at: at(7200), ..session.clone() }, None, at(10));
        assert!(buffer.record_known(session.id, None, at(3600), servable));
        assert!(!buffer.record_known(session.id, None, at(7200), servable));
    }

    #[test]
    fn failed_writes_leave_a_bounded_heap_behind() {
        let buffer = ActivityBuffer::new(TimeDelta::seconds(60));
        let sessions: Vec<_> = (1..=100).map(fixtures::session_number).collect();
        for second in 0..300 {
            for session in &sessions {
                buffer.record(session, None, at(second));
            }
            let taken = buffer.take_due(at(second));
            buffer.put_back(&taken, at(second));
        }
        let items: usize = (0..SHARDS).map(|shard| buffer.lock(shard).due.len()).sum();
        assert!(items <= 2 * sessions.len() + 16 * SHARDS, "{items} items for {} sessions", sessions.len());
        assert_eq!(buffer.take_due(at(301)).len(), sessions.len(), "all of them are still due");
    }
}
