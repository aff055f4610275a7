//! The protocol of `docs/coherence.md`, checked exhaustively on a bounded model that uses the
//! product's own rules (`domain::coherence`): two nodes, caches that may return any live value that
//! was ever read, a revocation and a second one of the same session, another transaction that may
//! stay open, a log that is pruned, a failover, a copy of the database on the same server and the
//! same cache, a restore in place.
//!
//! The property holds in every state; and each bug that would break it is injected once, and
//! found.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use domain::Session;
use domain::coherence::{
    Incarnation, LogPage, MonotonicInstant, ReadVersion, RevocationEntry, RevocationMap, Scope,
    Snapshot, ack_deadline, may_acknowledge,
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use testkit::fixtures;

/// One tick of the model's clock.
const TICK: Duration = Duration::from_secs(1);
/// A node serves from its caches for less than this after a poll was sent.
const MAX_STALENESS: Duration = Duration::from_secs(2);
/// When the commit wait of a revocation at time 0 is over by its deadline.
const LAST_TICK: u64 = 3;

/// The session that the model is about. It is needed in every state, so it is made once.
static SESSION: LazyLock<Session> = LazyLock::new(fixtures::bare_session);

/// What is wrong with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InjectedBug {
    None,
    /// A cached value is served unchecked.
    NoCheck,
    /// A revocation is acknowledged at once.
    NoWait,
    /// A poll counts from when it got a response.
    PollCountsFromArrival,
    /// Caches are served up to and at their deadline and a revocation is acknowledged at that
    /// deadline: one of the two has to be strict.
    BoundaryOnBothSides,
    /// The second revocation of the same session is acknowledged at once, for it has changed
    /// nothing.
    SecondAcknowledgedAtOnce,
    /// The next poll begins after the last entry that was seen.
    CursorAfterLastEntry,
    /// That the log was pruned is not noticed.
    PrunedUnnoticed,
    /// The position is used on, across a failover that uses numbers again.
    PositionAcrossLives,
    /// The map is asked first, and whether it is recent enough later.
    FreshnessAfterMap,
    /// What a node has merged before a failover is taken for what it has merged after it.
    MergedAcrossLives,
    /// A copy of the database has the life of the original.
    LifeTravels,
    /// After a restore, nodes whose leases it took away are not waited for.
    EarlierLivesForgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transaction {
    Idle,
    Open(u64),
    Committed(u64),
}

impl Transaction {
    fn open(self) -> Option<u64> {
        if let Self::Open(id) = self { Some(id) } else { None }
    }

    fn committed(self) -> Option<u64> {
        if let Self::Committed(id) = self { Some(id) } else { None }
    }
}

/// How far a revocation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Revoking {
    NotBegun,
    Committed { at: u64 },
    Acknowledged,
}

/// What a node has merged: in which life, and the snapshot.
type Merged = (u64, Snapshot);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Poll {
    None,
    Sent(u64),
    /// The page, and when the poll was sent; no page for a node that is not registered.
    Executed(Option<LogPage>, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    map: RevocationMap,
    poll: Poll,
    polls: u8,
    merged: Option<Merged>,
    /// What it has reported to the database; the outer `None`: the node is not registered.
    lease: Option<Option<Merged>>,
    /// The life that it knows, and since when; since always, if it has known it from the beginning.
    knows_life: (u64, Option<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Read {
    Idle,
    /// At a node; whether the revocation was acknowledged before.
    Begun(usize, bool),
    /// A map that was asked, of which it is not known whether it is recent enough (an injected
    /// bug).
    Asked(usize, bool),
    /// The database has returned it live, with this version.
    Found(bool, Version),
    Served {
        live: bool,
        cached: bool,
        after_acknowledgement: bool,
    },
}

/// A read version that can be ordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version {
    database: u32,
    life: u64,
    xmax: u64,
    in_progress: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    life: u64,
    next_id: u64,
    revocation: Transaction,
    other: Transaction,
    /// Entries of the log below this number are gone.
    retained_from: u64,
    /// A restore took the session away.
    is_gone: bool,
    nodes: [Node; 2],
    /// Live values that were ever read: any cache may return any of them, at any time.
    caches: BTreeSet<Version>,
    reads: [Read; 2],
    first: Revoking,
    second: Revoking,
    committed_at: Option<u64>,
    released: bool,
    refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    BeginRevocation,
    CommitRevocation,
    BeginOther,
    CommitOther,
    SecondRevocation,
    Acknowledge,
    AcknowledgeSecond,
    Prune,
    Failover,
    ReadAtCopy,
    Restore,
    SendPoll(usize),
    ExecutePoll(usize),
    MergePoll(usize),
    BeginRead(usize, usize),
    ServeFromCache(usize, Version),
    Ask(usize, Version),
    ServeAsked(usize),
    ReadDatabase(usize),
    ServeFound(usize),
}

/// What happens beside one revocation, two nodes, their polls, and reads. All of it at once would
/// be too many states for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// A second read, which may be served from a cache that the first one filled.
    AnotherRead,
    /// A second revocation of the same session, at the same node.
    AnotherRevocation,
    /// Another transaction, which may stay open; and the log is pruned.
    AnotherTransaction,
    /// A failover to a database that has all the data, and uses numbers again.
    AFailover,
    /// The same, and another transaction that may stay open on the new primary.
    AFailoverAndATransaction,
    /// A copy of the database on the same server, whose nodes share the cache. There the session is
    /// not revoked.
    ACopy,
    /// A backup is put back in place, which has neither the session nor the leases.
    ARestore,
}

impl Beside {
    /// The model ends here: when the commit wait of a revocation at time 0 is over by its deadline.
    /// Beside a failover and a transaction, what matters are the polls.
    fn last_tick(self) -> u64 {
        if self == Self::AFailoverAndATransaction { 1 } else { LAST_TICK }
    }

    fn has_failover(self) -> bool {
        matches!(self, Self::AFailover | Self::AFailoverAndATransaction)
    }
}

struct Protocol {
    injected_bug: InjectedBug,
    beside: Beside,
}

const DATABASE: u32 = 1;
const COPY: u32 = 2;

fn at(tick: u64) -> MonotonicInstant {
    MonotonicInstant(TICK * u32::try_from(tick).unwrap_or(u32::MAX))
}

fn incarnation(life: u64) -> Incarnation {
    Incarnation { system: 1, database: DATABASE, life }
}

fn read_version(version: &Version) -> ReadVersion {
    let incarnation = Incarnation { system: 1, database: version.database, life: version.life };
    ReadVersion {
        incarnation,
        snapshot: Snapshot::new(version.xmax, version.in_progress.iter().copied()),
    }
}

fn scope() -> Scope {
    Scope::Session(SESSION.id)
}

impl State {
    fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.next_id,
            [self.revocation, self.other].into_iter().filter_map(Transaction::open),
        )
    }

    /// The read version of a read now.
    fn version(&self) -> Version {
        let in_progress =
            [self.revocation, self.other].into_iter().filter_map(Transaction::open).collect();
        Version { database: DATABASE, life: self.life, xmax: self.next_id, in_progress }
    }

    /// The entries that are committed and not pruned.
    fn entries(&self) -> Vec<RevocationEntry> {
        let other = Scope::Session(fixtures::session_number(2).id);
        let entries = [(self.revocation, scope()), (self.other, other)].into_iter().filter_map(
            |(transaction, scope)| {
                transaction.committed().map(|sequence| RevocationEntry { sequence, scope })
            },
        );
        entries.filter(|entry| entry.sequence >= self.retained_from).collect()
    }

    fn is_acknowledged(&self) -> bool {
        self.first == Revoking::Acknowledged || self.second == Revoking::Acknowledged
    }
}

impl Protocol {
    fn is_servable(&self, state: &State, node: usize, version: &Version) -> bool {
        let map = &state.nodes[node].map;
        let now = at(state.now);
        let check =
            |now| map.check(SESSION.id, SESSION.user_id, &read_version(version), now).is_ok();
        match self.injected_bug {
            InjectedBug::NoCheck => true,
            InjectedBug::BoundaryOnBothSides if now == map.fresh_until() => {
                check(at(state.now.saturating_sub(1)))
            }
            _ => check(now),
        }
    }

    /// What the database returns to a poll of this node.
    fn page(&self, state: &State, node: usize) -> LogPage {
        let across = self.injected_bug == InjectedBug::PositionAcrossLives;
        let unnoticed = self.injected_bug == InjectedBug::PrunedUnnoticed;
        let merged = state.nodes[node].merged.clone();
        let since = merged.filter(|(life, since)| {
            (across || *life == state.life) && (unnoticed || state.retained_from <= since.xmin())
        });
        let since = since.map(|(_, since)| since);
        let start = Snapshot::below(state.retained_from);
        let mut entries = state.entries();
        entries.retain(|entry| !since.as_ref().unwrap_or(&start).sees(entry.sequence));
        let mut page = LogPage {
            incarnation: incarnation(state.life),
            snapshot: state.snapshot(),
            is_last: true,
            starts_over: since.is_none().then_some(start),
            entries,
        };
        match (self.injected_bug, since) {
            (InjectedBug::CursorAfterLastEntry, Some(since)) => {
                let last = page.entries.iter().map(|entry| entry.sequence).max();
                page.snapshot = last.map_or(since, |last| Snapshot::below(last + 1));
            }
            (InjectedBug::PositionAcrossLives, Some(since)) => {
                page.incarnation = incarnation(1);
                if page.snapshot.xmin() < since.xmin() {
                    page.snapshot = since;
                }
            }
            _ => {}
        }
        page
    }

    fn may_acknowledge(&self, state: &State, committed: u64) -> bool {
        let now = at(state.now);
        let by_time = ack_deadline(at(committed), MAX_STALENESS);
        let is_over = |deadline| match self.injected_bug {
            InjectedBug::BoundaryOnBothSides => now >= at(committed).saturating_add(MAX_STALENESS),
            _ => may_acknowledge(now, deadline),
        };
        let any_life = self.injected_bug == InjectedBug::MergedAcrossLives;
        let is_caught_up = |merged: &Option<Merged>| {
            let has_seen = |(life, snapshot): &Merged| {
                (any_life || *life == state.life)
                    && state.retained_from <= snapshot.xmin()
                    && state.entries().iter().all(|entry| snapshot.sees(entry.sequence))
            };
            merged.as_ref().is_some_and(has_seen)
        };
        let peer_is_caught_up = state.nodes[1].lease.as_ref().is_none_or(is_caught_up);
        let earlier_lives_are_over = match state.nodes[0].knows_life {
            _ if self.injected_bug == InjectedBug::EarlierLivesForgotten => true,
            (life, since) if life == state.life => since
                .is_none_or(|since| may_acknowledge(now, ack_deadline(at(since), MAX_STALENESS))),
            _ => any_life,
        };
        self.injected_bug == InjectedBug::NoWait
            || (peer_is_caught_up && earlier_lives_are_over)
            || is_over(by_time)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// Both nodes have polled at time 0, and a live value is in the caches.
    fn init_states(&self) -> Vec<State> {
        let mut map = RevocationMap::default();
        let page = LogPage {
            incarnation: incarnation(1),
            entries: Vec::new(),
            snapshot: Snapshot::below(10),
            is_last: true,
            starts_over: Some(Snapshot::below(10)),
        };
        assert!(map.apply(&page, at(0), MAX_STALENESS).is_complete);
        let merged = Some((1, Snapshot::below(10)));
        let node = Node {
            map,
            poll: Poll::None,
            polls: 0,
            lease: Some(merged.clone()),
            merged,
            knows_life: (1, None),
        };
        let mut state = State {
            now: 0,
            life: 1,
            next_id: 10,
            revocation: Transaction::Idle,
            other: Transaction::Idle,
            retained_from: 1,
            is_gone: false,
            nodes: [node.clone(), node],
            caches: BTreeSet::new(),
            reads: [Read::Idle, Read::Idle],
            first: Revoking::NotBegun,
            second: Revoking::NotBegun,
            committed_at: None,
            released: false,
            refused: false,
        };
        state.caches.insert(state.version());
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.beside.last_tick() {
            actions.push(Action::Tick);
        }
        match state.revocation {
            // After the restore it is of all users, and matches nothing.
            Transaction::Idle if self.beside == Beside::ARestore && !state.is_gone => {}
            Transaction::Idle => actions.push(Action::BeginRevocation),
            Transaction::Open(_) => actions.push(Action::CommitRevocation),
            Transaction::Committed(_) => {
                if state.second == Revoking::NotBegun && self.beside == Beside::AnotherRevocation {
                    actions.push(Action::SecondRevocation);
                }
                if state.retained_from == 1 && self.beside == Beside::AnotherTransaction {
                    actions.push(Action::Prune);
                }
            }
        }
        let on_the_new_primary = self.beside == Beside::AFailoverAndATransaction && state.life == 2;
        if self.beside == Beside::AnotherTransaction || on_the_new_primary {
            match state.other {
                Transaction::Idle => actions.push(Action::BeginOther),
                Transaction::Open(_) => actions.push(Action::CommitOther),
                Transaction::Committed(_) => {}
            }
        }
        let is_untouched = state.revocation == Transaction::Idle
            && state.other == Transaction::Idle
            && state.life == 1;
        if is_untouched && self.beside.has_failover() {
            actions.push(Action::Failover);
        }
        if is_untouched && self.beside == Beside::ARestore {
            actions.push(Action::Restore);
        }
        if self.beside == Beside::ACopy && state.caches.len() < 3 {
            actions.push(Action::ReadAtCopy);
        }
        if matches!(state.first, Revoking::Committed { at } if self.may_acknowledge(state, at)) {
            actions.push(Action::Acknowledge);
        }
        let at_once = self.injected_bug == InjectedBug::SecondAcknowledgedAtOnce;
        if let Revoking::Committed { at } = state.second
            && (at_once || self.may_acknowledge(state, at))
        {
            actions.push(Action::AcknowledgeSecond);
        }
        // What the revoking node learns matters to its own reads, and to whether it knows of a
        // restore.
        let polls = match self.beside {
            Beside::ARestore => [1, 2],
            _ => [0, 2],
        };
        for (n, node) in state.nodes.iter().enumerate() {
            match node.poll {
                Poll::None if node.polls < polls[n] => actions.push(Action::SendPoll(n)),
                Poll::None => {}
                Poll::Sent(_) => actions.push(Action::ExecutePoll(n)),
                Poll::Executed(..) => actions.push(Action::MergePoll(n)),
            }
        }
        // One read may fill a cache from which another one is served.
        let reads = match self.beside {
            Beside::AnotherRead | Beside::AFailoverAndATransaction => 2,
            _ => 1,
        };
        for (r, read) in state.reads.iter().enumerate().take(reads) {
            match read {
                // After the failover node 0, which does not poll here, has nothing to serve.
                Read::Idle if self.beside == Beside::AFailoverAndATransaction => {
                    actions.push(Action::BeginRead(r, 1))
                }
                Read::Idle => actions.extend([Action::BeginRead(r, 0), Action::BeginRead(r, 1)]),
                // Of two reads, one fills the caches, and the other is served from wherever.
                Read::Begun(..) if r == 0 && reads == 2 => actions.push(Action::ReadDatabase(r)),
                Read::Begun(..) => {
                    for version in &state.caches {
                        actions.push(Action::ServeFromCache(r, version.clone()));
                        if self.injected_bug == InjectedBug::FreshnessAfterMap {
                            actions.push(Action::Ask(r, version.clone()));
                        }
                    }
                    actions.push(Action::ReadDatabase(r));
                }
                Read::Asked(..) => actions.push(Action::ServeAsked(r)),
                Read::Found(..) => actions.push(Action::ServeFound(r)),
                Read::Served { .. } => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::BeginRevocation => {
                // The revoking node stops serving it first.
                assert_eq!(state.nodes[0].map.fence(scope()), scope());
                state.revocation = Transaction::Open(state.next_id);
                state.next_id += 1;
            }
            Action::CommitRevocation => {
                state.revocation = Transaction::Committed(state.revocation.open()?);
                state.first = Revoking::Committed { at: state.now };
                state.committed_at = Some(state.now);
            }
            Action::BeginOther => {
                state.other = Transaction::Open(state.next_id);
                state.next_id += 1;
            }
            Action::CommitOther => state.other = Transaction::Committed(state.other.open()?),
            Action::SecondRevocation => {
                assert_eq!(state.nodes[0].map.fence(scope()), scope());
                state.second = Revoking::Committed { at: state.now };
            }
            Action::Acknowledge => state.first = Revoking::Acknowledged,
            Action::AcknowledgeSecond => state.second = Revoking::Acknowledged,
            Action::Prune => state.retained_from = state.revocation.committed()? + 1,
            Action::Failover => {
                state.life = 2;
                state.next_id = 5;
                if self.injected_bug == InjectedBug::PositionAcrossLives {
                    state.life = 1;
                }
            }
            Action::ReadAtCopy => {
                // Of the same server, so its numbers are the same.
                let life =
                    if self.injected_bug == InjectedBug::LifeTravels { state.life } else { 7 };
                let database =
                    if self.injected_bug == InjectedBug::LifeTravels { DATABASE } else { COPY };
                state.caches.insert(Version { database, life, ..state.version() });
            }
            Action::Restore => {
                state.life = 2;
                state.is_gone = true;
                state.nodes[1].lease = None;
            }
            Action::SendPoll(n) => {
                state.nodes[n].poll = Poll::Sent(state.now);
                state.nodes[n].polls += 1;
            }
            Action::ExecutePoll(n) => {
                let Poll::Sent(sent) = state.nodes[n].poll else { return None };
                let page = match state.nodes[n].lease {
                    Some(_) => {
                        state.nodes[n].lease = Some(state.nodes[n].merged.clone());
                        Some(self.page(&state, n))
                    }
                    None => None,
                };
                state.nodes[n].poll = Poll::Executed(page, sent);
            }
            Action::MergePoll(n) => {
                let Poll::Executed(page, sent) = state.nodes[n].poll.clone() else { return None };
                let node = &mut state.nodes[n];
                node.poll = Poll::None;
                let Some(page) = page else {
                    // It registers, and starts again.
                    node.map.reset();
                    (node.merged, node.lease) = (None, Some(None));
                    return Some(state);
                };
                let counts_from = if self.injected_bug == InjectedBug::PollCountsFromArrival {
                    state.now
                } else {
                    sent
                };
                node.map.apply(&page, at(counts_from), MAX_STALENESS);
                node.merged = Some((page.incarnation.life, page.snapshot));
                if node.knows_life.0 != page.incarnation.life {
                    node.knows_life = (page.incarnation.life, Some(state.now));
                }
                // The fence is released by a poll that was sent after the commit.
                let is_after = state.committed_at.is_some_and(|committed| committed < sent);
                if n == 0 && is_after && !state.released {
                    state.nodes[0].map.release(scope());
                    state.released = true;
                }
            }
            Action::BeginRead(r, node) => {
                state.reads[r] = Read::Begun(node, state.is_acknowledged())
            }
            Action::ServeFromCache(r, version) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                if !self.is_servable(&state, node, &version) {
                    // The database decides, which is another action.
                    state.refused = true;
                    return Some(state);
                }
                state.reads[r] = Read::Served { live: true, cached: true, after_acknowledgement };
            }
            Action::Ask(r, version) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                let map = &state.nodes[node].map;
                // As of a time at which it was recent enough, if there was one.
                map.check(SESSION.id, SESSION.user_id, &read_version(&version), at(0)).ok()?;
                state.reads[r] = Read::Asked(node, after_acknowledgement);
            }
            Action::ServeAsked(r) => {
                let Read::Asked(node, after_acknowledgement) = state.reads[r] else { return None };
                (at(state.now) < state.nodes[node].map.fresh_until()).then_some(())?;
                state.reads[r] = Read::Served { live: true, cached: true, after_acknowledgement };
            }
            Action::ReadDatabase(r) => {
                let Read::Begun(_, after_acknowledgement) = state.reads[r] else { return None };
                let is_live = state.revocation.committed().is_none() && !state.is_gone;
                state.reads[r] = if is_live {
                    Read::Found(after_acknowledgement, state.version())
                } else {
                    Read::Served { live: false, cached: false, after_acknowledgement }
                };
            }
            Action::ServeFound(r) => {
                let Read::Found(after_acknowledgement, version) = state.reads[r].clone() else {
                    return None;
                };
                // It may end up in a cache at any time from now on, after everything that has
                // happened meanwhile.
                state.caches.insert(version);
                state.reads[r] = Read::Served { live: true, cached: false, after_acknowledgement };
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(FINAL, |_, state: &State| {
                let broken = |read: &Read| {
                    matches!(read, Read::Served { live: true, after_acknowledgement: true, .. })
                };
                !state.reads.iter().any(broken)
            }),
            Property::sometimes("a live session is served from a cache", |_, state: &State| {
                state.reads.iter().any(|read| matches!(read, Read::Served { cached: true, .. }))
            }),
            Property::sometimes("a live value in a cache is refused", |_, state: &State| {
                state.refused
            }),
            Property::sometimes(
                "a session that is not live is served as such",
                |_, state: &State| {
                    state.reads.iter().any(|read| matches!(read, Read::Served { live: false, .. }))
                },
            ),
        ];
        if self.beside.last_tick() == LAST_TICK {
            properties
                .push(Property::sometimes("a wait is over by its deadline", |_, state: &State| {
                    state.first == Revoking::Acknowledged && state.now == LAST_TICK
                }));
        }
        // The others wait by time here: no node has polled the new life at the time of the
        // revocation.
        if !self.beside.has_failover() && self.beside != Beside::ARestore {
            properties.push(Property::sometimes(
                "a wait is over because the peer has merged it",
                |_, state: &State| state.first == Revoking::Acknowledged && state.now == 0,
            ));
        }
        if self.beside == Beside::AnotherRevocation {
            let acknowledged = |_: &Self, state: &State| state.second == Revoking::Acknowledged;
            properties
                .push(Property::sometimes("the second revocation is acknowledged", acknowledged));
        }
        properties
    }
}

const FINAL: &str = "an acknowledged revocation is final";

#[test]
fn acknowledged_revocation_is_final() {
    let started = std::time::Instant::now();
    let mut states = 0;
    for beside in [
        Beside::AnotherRead,
        Beside::AnotherRevocation,
        Beside::AnotherTransaction,
        Beside::AFailover,
        Beside::AFailoverAndATransaction,
        Beside::ACopy,
        Beside::ARestore,
    ] {
        let checker = Protocol { injected_bug: InjectedBug::None, beside }
            .checker()
            .threads(2)
            .spawn_bfs()
            .join();
        println!(
            "{beside:?}: {} different states, {:?}",
            checker.unique_state_count(),
            started.elapsed()
        );
        checker.assert_properties();
        states += checker.unique_state_count();
    }
    assert!(states > 100_000, "{states} states");
}

#[test]
fn every_injected_bug_is_found() {
    for (injected_bug, beside) in [
        (InjectedBug::NoCheck, Beside::AnotherRead),
        (InjectedBug::NoWait, Beside::AnotherRead),
        (InjectedBug::PollCountsFromArrival, Beside::AnotherRead),
        (InjectedBug::BoundaryOnBothSides, Beside::AnotherRead),
        (InjectedBug::SecondAcknowledgedAtOnce, Beside::AnotherRevocation),
        (InjectedBug::CursorAfterLastEntry, Beside::AnotherTransaction),
        (InjectedBug::PrunedUnnoticed, Beside::AnotherTransaction),
        (InjectedBug::PositionAcrossLives, Beside::AFailover),
        (InjectedBug::FreshnessAfterMap, Beside::AnotherRead),
        (InjectedBug::MergedAcrossLives, Beside::AFailover),
        (InjectedBug::LifeTravels, Beside::ACopy),
        (InjectedBug::EarlierLivesForgotten, Beside::ARestore),
    ] {
        let started = std::time::Instant::now();
        let checker = Protocol { injected_bug, beside }
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let Some(path) = checker.discovery(FINAL) else { panic!("{injected_bug:?} was not found") };
        println!(
            "{injected_bug:?}: found in {} steps, {:?}",
            path.into_actions().len(),
            started.elapsed()
        );
    }
}
