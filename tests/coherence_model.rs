//! The protocol of `docs/coherence.md`, checked exhaustively on a bounded model that uses the product's own rules
//! (`domain::coherence`): two nodes, caches that may answer any live value that was ever read, a revoke and a second one of the
//! same session, another transaction that may stay open, a log that is cleared away, a failover.
//!
//! The property holds in every state; and each mistake that would break it is built in once, and found.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use domain::Session;
use domain::coherence::{
    FeedPage, Followed, Incarnation, LoggedEnd, Monotonic, ReadStamp, RevocationMap, Scope, Stamp, ack_deadline,
    may_acknowledge,
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use testkit::fixtures;

/// One tick of the model's clock.
const TICK: Duration = Duration::from_secs(1);
/// A node answers from memory for less than this after a look was sent.
const DELTA: Duration = Duration::from_secs(2);
/// The model ends here: when the wait of an end at moment 0 is over by time.
const LAST_TICK: u64 = 3;

/// The session that the model is about. It is needed in every state, so it is made once, and of nothing but what it has to have.
static SESSION: LazyLock<Session> = LazyLock::new(fixtures::bare_session);
/// The session of the other transaction.
static OTHER_SESSION: LazyLock<Session> =
    LazyLock::new(|| Session { id: fixtures::session_number(2).id, ..fixtures::bare_session() });

/// What is wrong with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Nothing,
    /// A cache's answer is not checked.
    NoCheck,
    /// An end is acknowledged at once.
    NoWait,
    /// A look counts from when it was answered.
    LookCountsFromArrival,
    /// Memory is good up to the moment of its end and an end is acknowledged at that moment: one of the two has to be strict.
    BoundaryOnBothSides,
    /// The second end of the same session is acknowledged at once, for it has changed nothing.
    SecondEndAtOnce,
    /// Whoever joins somebody else's read answers what it brought, unchecked.
    JoinWithoutCheck,
    /// The next look begins after the last entry that was seen.
    CursorAfterLastEntry,
    /// That the log was cleared away is not noticed.
    PrunedUnnoticed,
    /// The cursor is used on, across a failover that uses numbers again.
    CursorAcrossFailover,
    /// The map is looked at first, and whether it is fresh later.
    FreshnessAfterMap,
    /// What a node has merged before a failover is taken for what it has merged after it.
    AppliedAcrossFailover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transaction {
    Idle,
    Open(u64),
    Committed(u64),
}

impl Transaction {
    fn committed(self) -> Option<u64> {
        if let Self::Committed(id) = self { Some(id) } else { None }
    }
}

/// How far an end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    NotBegun,
    /// When, and a transaction that was over after it: whoever has seen that one has seen the end.
    Committed {
        at: u64,
        mark: u64,
    },
    Acknowledged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Look {
    None,
    Sent(u64),
    /// The page, when the look was sent, and its moment.
    Executed(FeedPage, u64, Snapshot),
}

/// What somebody had seen: the timeline, and below which number every transaction but those that were open.
type Snapshot = (u32, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    map: RevocationMap,
    look: Look,
    looks: u8,
    /// The moment of the last page that was merged, and what the database was told of it.
    applied: Snapshot,
    lease: Snapshot,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Read {
    Idle,
    /// At a node; whether the end was acknowledged before.
    Begun(usize, bool),
    /// A map that was looked at, of which it is not known whether it is fresh (a mistake).
    LookedUp(usize, bool),
    /// The database has answered live, with this stamp.
    Brought(usize, bool, ReadKey),
    Answered {
        live: bool,
        cached: bool,
        after_acknowledgement: bool,
    },
}

/// A stamp that can be ordered: timeline and `seen_below`.
type ReadKey = (u32, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    timeline: u32,
    next_id: u64,
    end: Transaction,
    other: Transaction,
    /// Entries of the log below this number are gone.
    kept_from: u64,
    nodes: [Node; 2],
    /// Live values that were ever read: any cache may answer any of them, at any time.
    caches: BTreeSet<ReadKey>,
    reads: [Read; 2],
    first: End,
    second: End,
    committed_at: Option<u64>,
    settled: bool,
    refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    BeginEnd,
    CommitEnd,
    BeginOther,
    CommitOther,
    SecondEnd,
    Acknowledge,
    AcknowledgeSecond,
    Prune,
    Failover,
    SendLook(usize),
    ExecuteLook(usize),
    MergeLook(usize),
    BeginRead(usize, usize),
    AnswerFromCache(usize, ReadKey),
    LookUp(usize, ReadKey),
    AnswerLookedUp(usize),
    AskDatabase(usize),
    AnswerBrought(usize),
    Join(usize),
}

/// What happens beside one end, two nodes, their looks, and reads. All of it at once would be too many states for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// A second read, which may join the first one's way to the database.
    AnotherRead,
    /// A second end of the same session, at the same node.
    AnotherEnd,
    /// Another transaction, which may stay open; and the log is cleared away.
    AnotherTransaction,
    /// A failover to a database that has all the data, and uses numbers again.
    AFailover,
    /// The same, and another transaction that may stay open on the new primary.
    AFailoverAndATransaction,
}

impl Beside {
    fn has_failover(self) -> bool {
        matches!(self, Self::AFailover | Self::AFailoverAndATransaction)
    }
}

struct Protocol {
    mistake: Mistake,
    beside: Beside,
}

fn at(tick: u64) -> Monotonic {
    Monotonic(TICK * u32::try_from(tick).unwrap_or(u32::MAX))
}

fn incarnation(timeline: u32) -> Incarnation {
    Incarnation { system: 1, timeline }
}

fn session((timeline, seen_below): ReadKey) -> Session {
    let stamp = ReadStamp { incarnation: incarnation(timeline), seen_below };
    Session { stamp: Stamp(Some(stamp)), ..SESSION.clone() }
}

fn scope() -> Scope {
    Scope::Session(SESSION.id)
}

impl State {
    /// The number below which every transaction is over.
    fn xmin(&self) -> u64 {
        let open = [self.end, self.other].into_iter().filter_map(|transaction| match transaction {
            Transaction::Open(id) => Some(id),
            _ => None,
        });
        open.min().unwrap_or(self.next_id)
    }

    /// An end that is committed at this moment, and its mark.
    fn committed_now(&mut self) -> End {
        let mark = self.next_id;
        self.next_id += 1;
        End::Committed { at: self.now, mark }
    }

    fn acknowledged(&self) -> bool {
        self.first == End::Acknowledged || self.second == End::Acknowledged
    }
}

impl Protocol {
    fn lets_through(&self, state: &State, node: usize, key: ReadKey) -> bool {
        let (map, now) = (&state.nodes[node].map, at(state.now));
        match self.mistake {
            Mistake::NoCheck => true,
            Mistake::BoundaryOnBothSides if now == map.fresh_until() => {
                map.check(&session(key), at(state.now.saturating_sub(1))).is_ok()
            }
            _ => map.check(&session(key), now).is_ok(),
        }
    }

    /// What the database answers to a look of this node.
    fn page(&self, state: &State, node: usize) -> FeedPage {
        let from = state.nodes[node].map.next().unwrap_or(state.xmin());
        let mut entries: Vec<(u64, Scope)> = Vec::new();
        entries.extend(state.end.committed().map(|id| (id, scope())));
        let other = Scope::Session(OTHER_SESSION.id);
        entries.extend(state.other.committed().map(|id| (id, other)));
        entries.retain(|(id, _)| *id >= from && *id >= state.kept_from);
        let mut page = FeedPage {
            incarnation: incarnation(state.timeline),
            ends: entries.iter().map(|(change, scope)| LoggedEnd { change: *change, scope: *scope }).collect(),
            complete: true,
            next: state.xmin(),
            kept_from: state.kept_from,
        };
        match self.mistake {
            Mistake::PrunedUnnoticed => page.kept_from = 0,
            Mistake::CursorAfterLastEntry => {
                page.next = entries.iter().map(|(id, _)| id + 1).max().unwrap_or(from);
            }
            Mistake::CursorAcrossFailover => {
                page.incarnation = incarnation(1);
                page.next = page.next.max(from);
            }
            _ => {}
        }
        page
    }

    fn may_acknowledge(&self, state: &State, committed: u64, mark: u64) -> bool {
        let any = self.mistake == Mistake::AppliedAcrossFailover;
        let knows = |(timeline, seen_below)| mark < seen_below && (any || timeline == state.timeline);
        let other_knows = knows(state.nodes[1].lease);
        if self.mistake == Mistake::NoWait || other_knows {
            return true;
        }
        let (now, deadline) = (at(state.now), ack_deadline(at(committed), DELTA));
        match self.mistake {
            Mistake::BoundaryOnBothSides => now >= at(committed).after(DELTA),
            _ => may_acknowledge(now, deadline),
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// Both nodes have looked at moment 0, and a live value is in the caches.
    fn init_states(&self) -> Vec<State> {
        let mut map = RevocationMap::default();
        let page = FeedPage { incarnation: incarnation(1), ends: Vec::new(), complete: true, next: 10, kept_from: 0 };
        assert_eq!(map.follow(&page, at(0), DELTA), Followed::BegunAnew);
        let node = Node { map, look: Look::None, looks: 0, applied: (1, 10), lease: (1, 10) };
        vec![State {
            now: 0,
            timeline: 1,
            next_id: 10,
            end: Transaction::Idle,
            other: Transaction::Idle,
            kept_from: 0,
            nodes: [node.clone(), node],
            caches: BTreeSet::from([(1, 10)]),
            reads: [Read::Idle, Read::Idle],
            first: End::NotBegun,
            second: End::NotBegun,
            committed_at: None,
            settled: false,
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < LAST_TICK {
            actions.push(Action::Tick);
        }
        match state.end {
            Transaction::Idle => actions.push(Action::BeginEnd),
            Transaction::Open(_) => actions.push(Action::CommitEnd),
            Transaction::Committed(_) => {
                if state.second == End::NotBegun && self.beside == Beside::AnotherEnd {
                    actions.push(Action::SecondEnd);
                }
                if state.kept_from == 0 && self.beside == Beside::AnotherTransaction {
                    actions.push(Action::Prune);
                }
            }
        }
        let on_the_new_primary = self.beside == Beside::AFailoverAndATransaction && state.timeline == 2;
        if self.beside == Beside::AnotherTransaction || on_the_new_primary {
            match state.other {
                Transaction::Idle => actions.push(Action::BeginOther),
                Transaction::Open(_) => actions.push(Action::CommitOther),
                Transaction::Committed(_) => {}
            }
        }
        let untouched = state.end == Transaction::Idle && state.other == Transaction::Idle && state.timeline == 1;
        if untouched && self.beside.has_failover() {
            actions.push(Action::Failover);
        }
        if matches!(state.first, End::Committed { at, mark } if self.may_acknowledge(state, at, mark)) {
            actions.push(Action::Acknowledge);
        }
        let at_once = self.mistake == Mistake::SecondEndAtOnce;
        if matches!(state.second, End::Committed { at, mark } if at_once || self.may_acknowledge(state, at, mark)) {
            actions.push(Action::AcknowledgeSecond);
        }
        // What the node that ends the session learns matters to its own reads only.
        let looks = if self.beside == Beside::AnotherRead { [1, 2] } else { [0, 2] };
        for (n, node) in state.nodes.iter().enumerate() {
            match node.look {
                Look::None if node.looks < looks[n] => actions.push(Action::SendLook(n)),
                Look::None => {}
                Look::Sent(_) => actions.push(Action::ExecuteLook(n)),
                Look::Executed(..) => actions.push(Action::MergeLook(n)),
            }
        }
        // One read may fill a cache from which another one is answered.
        let reads = match self.beside {
            Beside::AnotherRead | Beside::AFailoverAndATransaction => 2,
            _ => 1,
        };
        for (r, read) in state.reads.iter().enumerate().take(reads) {
            match read {
                // After the failover node 0, which does not look here, has nothing to serve.
                Read::Idle if self.beside == Beside::AFailoverAndATransaction => actions.push(Action::BeginRead(r, 1)),
                Read::Idle => actions.extend([Action::BeginRead(r, 0), Action::BeginRead(r, 1)]),
                Read::Begun(node, _) => {
                    for key in &state.caches {
                        actions.push(Action::AnswerFromCache(r, *key));
                        if self.mistake == Mistake::FreshnessAfterMap {
                            actions.push(Action::LookUp(r, *key));
                        }
                    }
                    actions.push(Action::AskDatabase(r));
                    if matches!(&state.reads[1 - r], Read::Brought(other, ..) if other == node) {
                        actions.push(Action::Join(r));
                    }
                }
                Read::LookedUp(..) => actions.push(Action::AnswerLookedUp(r)),
                Read::Brought(..) => actions.push(Action::AnswerBrought(r)),
                Read::Answered { .. } => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::BeginEnd => {
                // The node that ends it stops answering it first.
                assert_eq!(state.nodes[0].map.begin(scope()), scope());
                state.end = Transaction::Open(state.next_id);
                state.next_id += 1;
            }
            Action::CommitEnd => {
                let Transaction::Open(id) = state.end else { return None };
                state.end = Transaction::Committed(id);
                state.first = state.committed_now();
                state.committed_at = Some(state.now);
            }
            Action::BeginOther => {
                state.other = Transaction::Open(state.next_id);
                state.next_id += 1;
            }
            Action::CommitOther => {
                let Transaction::Open(id) = state.other else { return None };
                state.other = Transaction::Committed(id);
            }
            Action::SecondEnd => {
                assert_eq!(state.nodes[0].map.begin(scope()), scope());
                state.second = state.committed_now();
            }
            Action::Acknowledge => state.first = End::Acknowledged,
            Action::AcknowledgeSecond => state.second = End::Acknowledged,
            Action::Prune => state.kept_from = state.end.committed()? + 1,
            Action::Failover => {
                state.timeline = 2;
                state.next_id = 5;
                if self.mistake == Mistake::CursorAcrossFailover {
                    state.timeline = 1;
                }
            }
            Action::SendLook(n) => {
                state.nodes[n].look = Look::Sent(state.now);
                state.nodes[n].looks += 1;
            }
            Action::ExecuteLook(n) => {
                let Look::Sent(sent) = state.nodes[n].look else { return None };
                let page = self.page(&state, n);
                state.nodes[n].lease = state.nodes[n].applied;
                state.nodes[n].look = Look::Executed(page, sent, (state.timeline, state.next_id));
            }
            Action::MergeLook(n) => {
                let Look::Executed(page, sent, moment) = state.nodes[n].look.clone() else { return None };
                let counts_from = if self.mistake == Mistake::LookCountsFromArrival { state.now } else { sent };
                state.nodes[n].map.follow(&page, at(counts_from), DELTA);
                state.nodes[n].look = Look::None;
                // What the node that ends the session says of itself, nobody asks.
                if n == 1 {
                    state.nodes[n].applied = moment;
                }
                // What this node has ended is settled by a look that was sent after the commit.
                let settled = state.committed_at.is_some_and(|committed| committed < sent);
                if n == 0 && settled && !state.settled {
                    state.nodes[0].map.settle(scope());
                    state.settled = true;
                }
            }
            Action::BeginRead(r, node) => state.reads[r] = Read::Begun(node, state.acknowledged()),
            Action::AnswerFromCache(r, key) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                if !self.lets_through(&state, node, key) {
                    // The database decides, which is another action.
                    state.refused = true;
                    return Some(state);
                }
                state.reads[r] = Read::Answered { live: true, cached: true, after_acknowledgement };
            }
            Action::LookUp(r, key) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                let map = &state.nodes[node].map;
                // As of a moment at which it was fresh, if there was one.
                map.check(&session(key), at(0)).ok()?;
                state.reads[r] = Read::LookedUp(node, after_acknowledgement);
            }
            Action::AnswerLookedUp(r) => {
                let Read::LookedUp(node, after_acknowledgement) = state.reads[r] else { return None };
                (at(state.now) < state.nodes[node].map.fresh_until()).then_some(())?;
                state.reads[r] = Read::Answered { live: true, cached: true, after_acknowledgement };
            }
            Action::AskDatabase(r) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                state.reads[r] = match state.end.committed() {
                    Some(_) => Read::Answered { live: false, cached: false, after_acknowledgement },
                    None => Read::Brought(node, after_acknowledgement, (state.timeline, state.xmin())),
                };
            }
            Action::AnswerBrought(r) => {
                let Read::Brought(_, after_acknowledgement, key) = state.reads[r] else { return None };
                // It may end up in a cache at any time from now on, whatever has happened meanwhile.
                state.caches.insert(key);
                state.reads[r] = Read::Answered { live: true, cached: false, after_acknowledgement };
            }
            Action::Join(r) => {
                let Read::Begun(node, after_acknowledgement) = state.reads[r] else { return None };
                let Read::Brought(_, _, key) = state.reads[1 - r] else { return None };
                if self.mistake != Mistake::JoinWithoutCheck && !self.lets_through(&state, node, key) {
                    return None;
                }
                state.reads[r] = Read::Answered { live: true, cached: true, after_acknowledgement };
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(FINAL, |_, state: &State| {
                let broken =
                    |read: &Read| matches!(read, Read::Answered { live: true, after_acknowledgement: true, .. });
                !state.reads.iter().any(broken)
            }),
            Property::sometimes("a live session is answered from a cache", |_, state: &State| {
                state.reads.iter().any(|read| matches!(read, Read::Answered { cached: true, .. }))
            }),
            Property::sometimes("a live value in a cache is refused", |_, state: &State| state.refused),
            Property::sometimes("a wait is over by time", |_, state: &State| {
                state.first == End::Acknowledged && state.nodes[1].lease == (1, 10)
            }),
            Property::sometimes("an end is acknowledged because everybody knows", |_, state: &State| {
                state.first == End::Acknowledged && state.now == 0
            }),
            Property::sometimes("an ended session is answered as ended", |_, state: &State| {
                state.reads.iter().any(|read| matches!(read, Read::Answered { live: false, .. }))
            }),
        ];
        if self.beside == Beside::AnotherEnd {
            let acknowledged = |_: &Self, state: &State| state.second == End::Acknowledged;
            properties.push(Property::sometimes("the second end is acknowledged", acknowledged));
        }
        properties
    }
}

const FINAL: &str = "an acknowledged end is final";

#[test]
fn an_acknowledged_end_is_final() {
    let (started, mut states) = (std::time::Instant::now(), 0);
    for beside in [
        Beside::AnotherRead,
        Beside::AnotherEnd,
        Beside::AnotherTransaction,
        Beside::AFailover,
        Beside::AFailoverAndATransaction,
    ] {
        let checker = Protocol { mistake: Mistake::Nothing, beside }.checker().threads(2).spawn_bfs().join();
        println!("{beside:?}: {} different states, {:?}", checker.unique_state_count(), started.elapsed());
        checker.assert_properties();
        states += checker.unique_state_count();
    }
    assert!(states > 100_000, "{states} states");
}

#[test]
fn every_mistake_is_found() {
    for (mistake, beside) in [
        (Mistake::NoCheck, Beside::AnotherRead),
        (Mistake::NoWait, Beside::AnotherRead),
        (Mistake::LookCountsFromArrival, Beside::AnotherRead),
        (Mistake::BoundaryOnBothSides, Beside::AnotherRead),
        (Mistake::SecondEndAtOnce, Beside::AnotherEnd),
        (Mistake::JoinWithoutCheck, Beside::AnotherRead),
        (Mistake::CursorAfterLastEntry, Beside::AnotherTransaction),
        (Mistake::PrunedUnnoticed, Beside::AnotherTransaction),
        (Mistake::CursorAcrossFailover, Beside::AFailover),
        (Mistake::FreshnessAfterMap, Beside::AnotherRead),
        (Mistake::AppliedAcrossFailover, Beside::AFailover),
    ] {
        let started = std::time::Instant::now();
        let checker = Protocol { mistake, beside }
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let Some(path) = checker.discovery(FINAL) else { panic!("{mistake:?} was not found") };
        println!("{mistake:?}: found in {} steps, {:?}", path.into_actions().len(), started.elapsed());
    }
}
