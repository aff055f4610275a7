//! The connections of one listener: how many there may be, whose, and which of them are closed
//! first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use metrics::{Counter, Gauge};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::wire::client_address::{is_trusted, network};

/// The share of connections that are closed at once where there is no room for another, as a
/// divisor: a scan of all of them is then paid for by many.
const EVICTED_SHARE: usize = 100;

/// The bounds of one listener's connections.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Connections at a time.
    pub max: usize,
    /// Connections of one address at a time; those of trusted proxies do not count.
    pub max_per_address: usize,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// Proxies, each of which speaks for many clients.
    pub trusted_proxies: Arc<[IpNetwork]>,
}

/// What one connection is doing, shared with the task that serves it.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Shared>);

struct Shared {
    /// All times are relative to it.
    origin: Instant,
    /// Since when no request is being served, in milliseconds after `origin`; [`BUSY`] while
    /// something is.
    idle_since: AtomicU64,
    /// Whether a head had a line that ends with LF alone.
    has_bare_line_feed: AtomicBool,
}

const BUSY: u64 = u64::MAX;

impl Activity {
    /// Creates a connection that has just come, and on which nothing was asked yet.
    pub(crate) fn new(origin: Instant) -> Self {
        let activity = Self(Arc::new(Shared {
            origin,
            idle_since: AtomicU64::new(BUSY),
            has_bare_line_feed: AtomicBool::new(false),
        }));
        activity.responded();
        activity
    }

    /// The head of a request is complete: its body and its response have time-outs of their own.
    pub(crate) fn head_arrived(&self) {
        self.0.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// The response is ready to be written.
    pub(crate) fn responded(&self) {
        let now = self.0.origin.elapsed().as_millis();
        self.0.idle_since.store(u64::try_from(now).unwrap_or(BUSY - 1), Ordering::Relaxed);
    }

    /// Returns whether a request is in progress.
    pub(crate) fn is_responding(&self) -> bool {
        self.0.idle_since.load(Ordering::Relaxed) == BUSY
    }

    /// A line of a head has ended with LF alone.
    pub(crate) fn found_bare_line_feed(&self) {
        self.0.has_bare_line_feed.store(true, Ordering::Relaxed);
    }

    /// Returns whether a line of a head has ended with LF alone.
    pub(crate) fn has_bare_line_feed(&self) -> bool {
        self.0.has_bare_line_feed.load(Ordering::Relaxed)
    }

    fn idle_since(&self) -> Option<u64> {
        Some(self.0.idle_since.load(Ordering::Relaxed)).filter(|since| *since != BUSY)
    }
}

/// The open connections of one listener.
pub(crate) struct Connections {
    settings: ConnectionSettings,
    origin: Instant,
    open: Mutex<Open>,
    /// The size of `open`, for those who serve requests.
    count: AtomicUsize,
    gauge: Gauge,
    evicted: Counter,
    refused: Counter,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
    by_address: HashMap<IpAddr, usize>,
}

struct Connection {
    /// `None`: it does not count against an address.
    address: Option<IpAddr>,
    activity: Activity,
    close: CancellationToken,
}

/// A connection's slot among the open ones, which it gives back when it is dropped.
pub(crate) struct Slot {
    connections: Arc<Connections>,
    number: u64,
    /// What the connection is doing.
    pub(crate) activity: Activity,
    /// Cancelled when the connection is to make room for another.
    pub(crate) close: CancellationToken,
}

impl Connections {
    /// No connections yet. `name` is the listener's label in metrics.
    pub(crate) fn new(name: &'static str, settings: ConnectionSettings) -> Self {
        let closed = |reason: &'static str| {
            let counter = metrics::counter!(
                "sessiond_http_connections_closed_total",
                "listener" => name,
                "reason" => reason
            );
            counter.increment(0);
            counter
        };
        Self {
            settings,
            origin: Instant::now(),
            open: Mutex::default(),
            count: AtomicUsize::new(0),
            gauge: metrics::gauge!("sessiond_http_connections", "listener" => name),
            evicted: closed("evicted"),
            refused: closed("refused"),
        }
    }

    /// Returns how long a connection may be idle between two requests.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.settings.idle_timeout
    }

    /// Returns whether there is so little room left that a connection had better end with its
    /// response.
    pub(crate) fn are_crowded(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.settings.max - self.settings.max / 10
    }

    /// Makes room for a connection from this address: where there is none, those that have been
    /// idle for longest are closed. Returns `None` if all are busy.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Slot> {
        let address = (!is_trusted(peer.to_canonical(), &self.settings.trusted_proxies))
            .then(|| network(peer));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address =
            address.and_then(|address| open.by_address.get(&address).copied()).unwrap_or_default();
        let mut evicted = 0;
        if of_address >= self.settings.max_per_address {
            let surplus = 1 + of_address / EVICTED_SHARE;
            evicted += open.evict(surplus, |connection| connection.address == address);
        } else if open.connections.len() >= self.settings.max {
            let surplus = 1 + open.connections.len() / EVICTED_SHARE;
            evicted += open.evict(surplus, |_| true);
        }
        self.evicted.increment(evicted as u64);
        let of_address =
            address.and_then(|address| open.by_address.get(&address).copied()).unwrap_or_default();
        if of_address >= self.settings.max_per_address
            || open.connections.len() >= self.settings.max
        {
            self.report(&open);
            self.refused.increment(1);
            return None;
        }
        let number = open.next;
        open.next += 1;
        let activity = Activity::new(self.origin);
        let close = CancellationToken::new();
        open.connections.insert(
            number,
            Connection { address, activity: activity.clone(), close: close.clone() },
        );
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        self.report(&open);
        Some(Slot { connections: self.clone(), number, activity, close })
    }

    fn report(&self, open: &Open) {
        self.count.store(open.connections.len(), Ordering::Relaxed);
        self.gauge.set(open.connections.len() as f64);
    }
}

impl Open {
    /// Closes at most `surplus` idle connections of those that are wanted, the longest idle first,
    /// and returns how many that were. They do not count any more, though they may take some time
    /// to go.
    fn evict(&mut self, surplus: usize, is_wanted: impl Fn(&Connection) -> bool) -> usize {
        let wanted = self.connections.iter().filter(|(_, connection)| is_wanted(connection));
        let mut idle: Vec<_> = wanted
            .filter_map(|(number, connection)| Some((connection.activity.idle_since()?, *number)))
            .collect();
        idle.sort_unstable();
        idle.truncate(surplus);
        for (_, number) in &idle {
            if let Some(connection) = self.remove(*number) {
                connection.close.cancel();
            }
        }
        idle.len()
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(address) = connection.address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(self.number);
        self.connections.report(&open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize, max_per_address: usize) -> Arc<Connections> {
        let idle_timeout = Duration::from_secs(75);
        let trusted_proxies = Arc::new(["10.0.0.0/8".parse().unwrap()]);
        Arc::new(Connections::new(
            "test",
            ConnectionSettings { max, max_per_address, idle_timeout, trusted_proxies },
        ))
    }

    fn address(n: usize) -> IpAddr {
        format!("192.0.2.{n}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn longest_idle_connection_makes_room_for_a_new_one() {
        let connections = connections(3, 3);
        let mut slots = Vec::new();
        for n in 0..3 {
            slots.push(connections.admit(address(n)).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        slots[0].activity.head_arrived();
        let fourth = connections.admit(address(3)).unwrap();
        let closed: Vec<_> = slots.iter().map(|slot| slot.close.is_cancelled()).collect();
        assert_eq!(closed, [false, true, false], "the first one is busy");
        drop(slots);
        drop(fourth);
        assert!(connections.open.lock().unwrap().by_address.is_empty());
        assert_eq!(connections.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_is_admitted_where_all_are_busy() {
        let connections = connections(2, 2);
        let slots = [0, 1].map(|n| connections.admit(address(n)).unwrap());
        for slot in &slots {
            slot.activity.head_arrived();
        }
        assert!(connections.admit(address(2)).is_none());
        slots[1].activity.responded();
        assert!(connections.admit(address(2)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_takes_its_own_share_and_a_proxy_what_it_needs() {
        let connections = connections(100, 2);
        let other = connections.admit(address(9)).unwrap();
        let own: Vec<_> = (0..5).map(|_| connections.admit(address(1)).unwrap()).collect();
        assert_eq!(own.iter().filter(|slot| !slot.close.is_cancelled()).count(), 2);
        assert!(!other.close.is_cancelled());
        for slot in &own[3..] {
            slot.activity.head_arrived();
        }
        assert!(connections.admit(address(1)).is_none());
        let proxied: Vec<_> =
            (0..50).map(|_| connections.admit("10.1.2.3".parse().unwrap()).unwrap()).collect();
        assert!(proxied.iter().all(|slot| !slot.close.is_cancelled()));
    }

    #[tokio::test]
    async fn listener_is_crowded_from_nine_tenths_on() {
        let connections = connections(20, 20);
        let mut slots: Vec<_> = (0..17).map(|n| connections.admit(address(n)).unwrap()).collect();
        assert!(!connections.are_crowded());
        slots.push(connections.admit(address(17)).unwrap());
        assert!(connections.are_crowded());
        slots.pop();
        assert!(!connections.are_crowded());
    }
}
