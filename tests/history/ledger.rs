//! Requests, their responses, and the promises that are held against it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// What a busy machine adds, and an unoptimised build.
const ALLOWANCE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 500 });
/// How long a question about a session may take, faults included: a second.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// How long a revocation may take: the maximum staleness and a second.
const END_LIMIT: Duration = Duration::from_millis(1500);
/// How long after a fault errors are no surprise: after a crash of the database every connection of
/// every node is replaced at once.
const AFTERMATH: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 2 });
/// How long something whose outcome is unknown may still happen.
const TAINT: Duration = Duration::from_secs(15);
/// The machine has stalled if a thread wakes up so much later than it asked for:
/// it was paused, or busy with something else. That is no fault of the nodes.
const STALL: Duration = Duration::from_millis(200);
/// How often that is measured.
const TICK: Duration = Duration::from_millis(20);
/// Questions about a session that are shown with a broken promise.
const MAX_KEPT: usize = 16;

/// A session, as users name it.
pub(crate) type Id = String;

/// What a request got in response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Live, by a cache or by the database.
    Live { cached: bool },
    /// Revoked.
    Revoked,
    /// Over by its own time.
    Over,
    /// Over; how is not said.
    Ended,
    /// No such session.
    NotFound,
    /// Another user's.
    NotOwner,
    /// 503: it cannot be known.
    Unavailable,
    /// Everything else that the server returns.
    Other(u16),
    /// Nothing, or not in time.
    Nothing,
}

pub(crate) struct Ledger {
    began: Instant,
    book: Mutex<Book>,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) sessions: HashMap<Id, Entry>,
    /// By age.
    pub(crate) ids: Vec<Id>,
    pub(crate) violations: Vec<(Instant, String)>,
    pub(crate) counts: Counts,
    troubles: Vec<Trouble>,
    /// From when to when the machine stalled.
    stalls: Vec<(Instant, Instant)>,
    late: Vec<Late>,
    /// Users who are signing in now: any of their sessions may be making room.
    signing_in: HashMap<String, u32>,
    /// Users of whom all sessions may be revoked by a request of unknown outcome.
    tainted: HashMap<String, Instant>,
    /// A backup is being put back: what was promised before does not count until all sessions are
    /// revoked.
    restoring: bool,
    /// Reads that began before this do not count: a backup was put back meanwhile.
    counts_from: Option<Instant>,
    /// How often a backup was put back.
    pub(crate) restores: u32,
}

pub(crate) struct Entry {
    pub(crate) user: String,
    expires: Option<SystemTime>,
    /// Since when its revocation is acknowledged.
    final_since: Option<Instant>,
    /// A client has tried to revoke it: its state may be anything until it is acknowledged.
    pub(crate) doubtful: bool,
    /// A backup from before it was put back.
    pub(crate) may_be_gone: bool,
    log: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) created: u64,
    pub(crate) revoked: u64,
    pub(crate) unknown_ends: u64,
    pub(crate) reads: u64,
    pub(crate) reads_after_an_end: u64,
    pub(crate) unavailable: u64,
    /// Failures while nothing was wrong.
    pub(crate) unexplained: u64,
    pub(crate) quiet_reads: u64,
    pub(crate) quiet_reads_from_caches: u64,
    pub(crate) cached: u64,
    pub(crate) token_reads: u64,
    /// The longest that a response took from a place that could respond.
    pub(crate) slowest: Duration,
    /// How far a name was behind, at most.
    pub(crate) behind: Duration,
}

/// A time in which something is wrong: everywhere, or so that a node does not respond at all.
struct Trouble {
    began: Instant,
    ended: Option<Instant>,
    mute: Option<usize>,
}

/// A response that took longer than it may, unless the machine stalled meanwhile.
struct Late {
    began: Instant,
    ended: Instant,
    limit: Duration,
    text: String,
}

impl Late {
    /// Returns how long it took, but for the time in which the machine stalled.
    fn took(&self, stalls: &[(Instant, Instant)]) -> Duration {
        let overlap = |(from, to): &(Instant, Instant)| {
            (*to).min(self.ended).saturating_duration_since((*from).max(self.began))
        };
        (self.ended - self.began).saturating_sub(stalls.iter().map(overlap).sum())
    }
}

/// What a request is that records activity.
pub(crate) const ACTIVITY: &str = "activity";

/// A question, from when to when, to whom.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) place: usize,
    pub(crate) at: Instant,
    pub(crate) what: &'static str,
}

impl Asked {
    pub(crate) fn now(place: usize, what: &'static str) -> Self {
        Self { place, at: Instant::now(), what }
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), book: Mutex::default() }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Since the beginning of the run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Something goes wrong from now on; `mute`: this place does not respond at all. Returns what
    /// to end it by.
    pub(crate) fn trouble(&self, mute: Option<usize>) -> usize {
        let mut book = self.book();
        book.troubles.push(Trouble { began: Instant::now(), ended: None, mute });
        book.troubles.len() - 1
    }

    pub(crate) fn trouble_is_over(&self, trouble: usize) {
        self.book().troubles[trouble].ended = Some(Instant::now());
    }

    pub(crate) fn created(&self, id: &str, user: &str, expires: Option<SystemTime>) {
        let user_id = user.to_owned();
        let log = VecDeque::new();
        let entry = Entry {
            user: user_id,
            expires,
            final_since: None,
            doubtful: false,
            may_be_gone: false,
            log,
        };
        let mut book = self.book();
        let is_tainted = book.tainted.get(user).is_some_and(|since| since.elapsed() < TAINT);
        let entry = Entry { doubtful: is_tainted, ..entry };
        book.counts.created += 1;
        book.sessions.insert(id.to_owned(), entry);
        book.ids.push(id.to_owned());
    }

    /// A user is signing in.
    pub(crate) fn signing_in(&self, user: &str) {
        *self.book().signing_in.entry(user.to_owned()).or_default() += 1;
    }

    /// A user has signed in, or not; `known`: whether that is known.
    pub(crate) fn signed_in(&self, user: &str, known: bool) {
        let mut book = self.book();
        *book.signing_in.get_mut(user).unwrap() -= 1;
        if !known {
            book.taint(user);
        }
    }

    /// All of a user's sessions may be revoked by a request of unknown outcome.
    pub(crate) fn taint(&self, user: &str) {
        self.book().taint(user);
    }

    /// A client is about to revoke these.
    pub(crate) fn doubt(&self, ids: &[Id]) {
        let mut book = self.book();
        for id in ids {
            if let Some(entry) = book.sessions.get_mut(id) {
                entry.doubtful = true;
            }
        }
    }

    /// The revocation of these is acknowledged.
    pub(crate) fn revoked(&self, asked: Asked, ids: &[Id]) {
        let mut book = self.book();
        // Under the lock: later requests find it here.
        let now = Instant::now();
        for id in ids {
            let Some(entry) = book.sessions.get_mut(id) else { continue };
            entry.doubtful = true;
            entry.final_since.get_or_insert(now);
            entry.note(asked, "acknowledged");
            book.counts.revoked += 1;
        }
        book.in_time("I14", asked, END_LIMIT);
    }

    /// How often a backup was put back, and whether one is being put back.
    pub(crate) fn restores(&self) -> u32 {
        let book = self.book();
        2 * book.restores + u32::from(book.restoring)
    }

    /// A backup is about to be put back in place.
    pub(crate) fn restoring(&self) {
        let mut book = self.book();
        book.restoring = true;
        for entry in book.sessions.values_mut() {
            entry.doubtful = true;
            entry.may_be_gone = true;
        }
    }

    /// It was put back, if it was; and the revocation of all sessions is acknowledged.
    pub(crate) fn restored(&self, was_put_back: bool) {
        let mut book = self.book();
        let now = Instant::now();
        book.restores += u32::from(was_put_back);
        for entry in book.sessions.values_mut() {
            entry.final_since.get_or_insert(now);
        }
        book.restoring = false;
        book.counts_from = Some(now);
    }

    /// The outcome of a revocation is unknown.
    pub(crate) fn outcome_unknown(&self, asked: Asked, response: Response) {
        let mut book = self.book();
        book.counts.unknown_ends += 1;
        book.explained(asked, response);
        book.in_time("I14", asked, END_LIMIT);
    }

    /// Records the response to an owner's read of a session, and which session it was about.
    pub(crate) fn read(&self, asked: Asked, id: &str, response: Response, about: Option<&str>) {
        self.book().read(asked, id, response, about);
    }

    /// Records the response to a stranger's read of a session.
    pub(crate) fn read_by_a_stranger(&self, asked: Asked, id: &str, response: Response) {
        let mut book = self.book();
        book.counts.reads += 1;
        book.explained(asked, response);
        let is_gone = response == Response::NotFound
            && book.sessions.get(id).is_some_and(|entry| entry.may_be_gone);
        if !is_gone
            && !matches!(response, Response::NotOwner | Response::Unavailable | Response::Nothing)
        {
            book.violate("I5", id, asked, response);
        }
    }

    /// A name was returned that was replaced this long ago.
    pub(crate) fn behind(&self, behind: Duration) {
        let mut book = self.book();
        book.counts.behind = book.counts.behind.max(behind);
    }

    /// A session was read by its token, the current one or the one before.
    pub(crate) fn token_read(&self) {
        self.book().counts.token_reads += 1;
    }

    pub(crate) fn violate(&self, text: String) {
        self.book().violations.push((Instant::now(), text));
    }

    /// Measures whether the machine stalls, for [`TICK`].
    pub(crate) fn measure_stall(&self) {
        let due = Instant::now() + TICK;
        std::thread::sleep(TICK);
        let now = Instant::now();
        if now > due + STALL {
            self.book().stalls.push((due, now));
        }
    }

    /// Decides which late responses break a promise. A stall is known after it has ended, so that
    /// is decided in the end.
    pub(crate) fn judge_late_responses(&self) {
        let mut book = self.book();
        for late in std::mem::take(&mut book.late) {
            if late.took(&book.stalls) > late.limit {
                book.violations.push((late.ended, late.text));
            }
        }
    }
}

impl Entry {
    fn note(&mut self, asked: Asked, response: impl fmt::Debug) {
        if self.log.len() == MAX_KEPT {
            self.log.pop_front();
        }
        let began = asked.at;
        let took = asked.at.elapsed();
        self.log.push_back(format!(
            "{began:?} +{took:?} node {} {} -> {response:?}",
            asked.place, asked.what
        ));
    }
}

impl Book {
    /// Returns how often the machine stalled, and for how long in all.
    pub(crate) fn stalls(&self) -> (usize, Duration) {
        (self.stalls.len(), self.stalls.iter().map(|(from, to)| *to - *from).sum())
    }

    fn taint(&mut self, user: &str) {
        self.tainted.insert(user.to_owned(), Instant::now());
        for entry in self.sessions.values_mut().filter(|entry| entry.user == user) {
            entry.doubtful = true;
        }
    }

    fn read(&mut self, asked: Asked, id: &str, response: Response, about: Option<&str>) {
        self.counts.reads += 1;
        self.explained(asked, response);
        // Activity is a change, though it says whether the session is live.
        self.in_time("I14", asked, if asked.what == ACTIVITY { END_LIMIT } else { READ_LIMIT });
        if self.restoring || self.counts_from.is_some_and(|since| asked.at <= since) {
            return;
        }
        let is_quiet = self.is_quiet(asked, None);
        let Some(entry) = self.sessions.get_mut(id) else { return };
        entry.note(asked, response);
        let final_since = entry.final_since;
        let doubtful = entry.doubtful;
        let expires = entry.expires;
        let may_be_gone = entry.may_be_gone;
        let is_making_room = self.signing_in.get(&entry.user).is_some_and(|count| *count > 0);
        let ended_before = final_since.is_some_and(|since| since < asked.at);
        self.counts.reads_after_an_end += u64::from(ended_before);
        match response {
            Response::Live { cached } => {
                self.counts.cached += u64::from(cached);
                if is_quiet {
                    self.counts.quiet_reads += 1;
                    self.counts.quiet_reads_from_caches += u64::from(cached);
                }
                if ended_before {
                    self.violate("I1", id, asked, response);
                }
                let began = SystemTime::now() - asked.at.elapsed();
                if expires.is_some_and(|expires| began > expires + Duration::from_secs(1)) {
                    self.violate("I6", id, asked, response);
                }
            }
            // It was not revoked.
            Response::Revoked if !doubtful && !is_making_room => {
                self.violate("I2", id, asked, response)
            }
            Response::Over if expires.is_none_or(|expires| SystemTime::now() < expires) => {
                self.violate("I6", id, asked, response);
            }
            Response::NotFound if may_be_gone => {}
            Response::NotFound => self.violate("I7", id, asked, response),
            Response::NotOwner | Response::Other(_) => self.violate("I13", id, asked, response),
            Response::Ended
                if !doubtful
                    && !is_making_room
                    && expires.is_none_or(|expires| SystemTime::now() < expires) =>
            {
                self.violate("I13", id, asked, response);
            }
            Response::Revoked
            | Response::Over
            | Response::Ended
            | Response::Unavailable
            | Response::Nothing => {}
        }
        if about.is_some_and(|about| about != id) {
            self.violate("I8", id, asked, response);
        }
    }

    /// Failures come of faults only.
    fn explained(&mut self, asked: Asked, response: Response) {
        let failed =
            matches!(response, Response::Unavailable | Response::Nothing | Response::Other(500..));
        self.counts.unavailable += u64::from(failed);
        if failed && self.is_quiet(asked, None) {
            self.counts.unexplained += 1;
            let text = format!(
                "I13 {} at node {}: {response:?} though nothing was wrong",
                asked.what, asked.place
            );
            // An unoptimised build on a busy machine is too slow now and then, but not for long: a
            // node that cannot serve fails a third of all reads.
            if !cfg!(debug_assertions) || self.counts.unexplained > 50 + self.counts.reads / 20 {
                self.violations.push((Instant::now(), text));
            }
        }
    }

    fn in_time(&mut self, promise: &str, asked: Asked, limit: Duration) {
        let took = asked.at.elapsed();
        let is_noted = took > self.counts.slowest || took > limit + ALLOWANCE;
        if !is_noted || !self.is_quiet(asked, Some(asked.place)) {
            return;
        }
        self.counts.slowest = took.max(self.counts.slowest);
        if took > limit + ALLOWANCE {
            let text = format!("{promise} {} at node {} took {took:?}", asked.what, asked.place);
            let limit = limit + ALLOWANCE;
            self.late.push(Late { began: asked.at, ended: asked.at + took, limit, text });
        }
    }

    /// Whether nothing was wrong during this request, nor shortly before; `mute`:
    /// whether this place could respond.
    fn is_quiet(&self, asked: Asked, mute: Option<usize>) -> bool {
        !self.troubles.iter().rev().take(8).any(|trouble| {
            let over = trouble.ended.is_some_and(|ended| ended + AFTERMATH < asked.at);
            !over && (mute.is_none() || trouble.mute == mute) && trouble.began < Instant::now()
        })
    }

    fn violate(&mut self, promise: &str, id: &str, asked: Asked, response: Response) {
        let mut text = format!(
            "{promise} session {id}: {} at node {} -> {response:?}",
            asked.what, asked.place
        );
        if let Some(entry) = self.sessions.get(id) {
            text.push_str(&format!(" (user {}, final since {:?})", entry.user, entry.final_since));
            for line in &entry.log {
                text.push_str(&format!("\n    {line}"));
            }
        }
        self.violations.push((Instant::now(), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_late_only_by_the_time_in_which_the_machine_ran() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let late =
            Late { began, ended: at(10), limit: Duration::from_secs(3), text: String::new() };
        let took = |stalls: &[(Instant, Instant)]| late.took(stalls).as_secs();
        assert_eq!(took(&[]), 10);
        assert_eq!(took(&[(at(1), at(3)), (at(9), at(12))]), 7, "as far as it was meanwhile");
        assert_eq!(took(&[(at(11), at(12))]), 10);
    }
}
