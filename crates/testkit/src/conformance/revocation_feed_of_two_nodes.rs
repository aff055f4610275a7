//! What every `RevocationFeed` does that several nodes can share. An adapter whose store
//! belongs to one node does not run this suite.

use std::time::{Duration, Instant};

use domain::ports::{LogPosition, Peers, Poll, RevocationFeed};

use super::TwoNodes;
use super::revocation_feed::{MAX_STALENESS, is_covered, poll, revocation};
use crate::fixtures;

/// Runs the suite against the store that the expression makes.
#[macro_export]
macro_rules! revocation_feed_of_two_nodes_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            revocation_feed_of_two_nodes,
            $fixture,
            $($must_fail,)?
            [
                node_that_is_not_registered_gets_nothing,
                peer_lags_until_it_reports_a_poll_that_saw_the_revocation,
                peers_are_returned_as_soon_as_all_are_caught_up,
            ]
        );
    };
}

async fn peers(feed: &dyn RevocationFeed) -> Peers {
    feed.peers(Duration::ZERO).await.unwrap()
}

/// Polls from a position and reports that everything up to it is merged.
async fn report(feed: &dyn RevocationFeed, position: &LogPosition) -> Poll {
    feed.poll(Some(position), true).await.unwrap().expect("a registered node")
}

/// A node that was removed has to register again.
pub async fn node_that_is_not_registered_gets_nothing(nodes: &TwoNodes) {
    let TwoNodes { stores, other_feed: other } = nodes;
    for is_heartbeat in [true, false] {
        assert_eq!(stores.feed.poll(None, is_heartbeat).await.unwrap(), None);
    }
    stores.feed.register(MAX_STALENESS).await.unwrap();
    assert!(stores.feed.poll(None, true).await.unwrap().is_some());
    other.register(MAX_STALENESS).await.unwrap();
    let mut seen = peers(&**other).await.peers;
    assert_eq!((seen.len(), seen[0].max_staleness), (1, MAX_STALENESS));
    // A poll that is no heartbeat leaves the lease alone.
    stores.feed.poll(None, false).await.unwrap().unwrap();
    assert_eq!(peers(&**other).await.peers, seen);
    // It has reported again meanwhile.
    stores.feed.poll(None, true).await.unwrap().unwrap();
    other.remove_peer(&seen[0]).await.unwrap();
    assert!(stores.feed.poll(None, true).await.unwrap().is_some());
    seen = peers(&**other).await.peers;
    other.remove_peer(&seen[0]).await.unwrap();
    assert_eq!(stores.feed.poll(None, false).await.unwrap(), None);
    assert_eq!(peers(&**other).await.peers, []);
}

/// A peer is caught up when it has merged a poll that saw the revocation, and has said so.
pub async fn peer_lags_until_it_reports_a_poll_that_saw_the_revocation(nodes: &TwoNodes) {
    let TwoNodes { stores, other_feed: other } = nodes;
    stores.feed.register(MAX_STALENESS).await.unwrap();
    poll(&*stores.feed, None).await;
    assert_eq!(peers(&*stores.feed).await.peers, []);
    other.register(MAX_STALENESS).await.unwrap();
    let is_caught_up = async || {
        let peers = peers(&*stores.feed).await.peers;
        assert_eq!(peers.len(), 1);
        peers[0].is_caught_up
    };
    assert!(!is_caught_up().await, "a peer that has not polled");
    let early = poll(&**other, None).await;
    let early = report(&**other, &early.position).await;
    assert!(is_caught_up().await, "there is nothing to be revoked");
    let session = fixtures::session();
    stores.sessions.insert(&session, None).await.unwrap();
    stores.sessions.revoke(&[session.id], &revocation()).await.unwrap();
    assert!(!is_caught_up().await);
    let late = report(&**other, &early.position).await;
    assert!(is_covered(&late.page.entries, session.id, session.user_id));
    assert!(!is_caught_up().await, "that it has seen the revocation is not to have merged it");
    other.poll(Some(&late.position), false).await.unwrap().unwrap();
    assert!(!is_caught_up().await, "a poll that is no heartbeat reports nothing");
    report(&**other, &late.position).await;
    assert!(is_caught_up().await);
    // Registered again, after it was stopped: what it had merged is not known any more.
    other.register(MAX_STALENESS).await.unwrap();
    assert!(!is_caught_up().await);
    other.leave().await.unwrap();
    assert_eq!(peers(&*stores.feed).await.peers, []);
}

/// The caller neither asks again and again, nor waits for longer than it wants to.
pub async fn peers_are_returned_as_soon_as_all_are_caught_up(nodes: &TwoNodes) {
    let TwoNodes { stores, other_feed: other } = nodes;
    stores.feed.register(MAX_STALENESS).await.unwrap();
    other.register(MAX_STALENESS).await.unwrap();
    let first = poll(&**other, None).await;
    let session = fixtures::session();
    stores.sessions.insert(&session, None).await.unwrap();
    stores.sessions.revoke(&[session.id], &revocation()).await.unwrap();
    let started = Instant::now();
    let lagging = stores.feed.peers(Duration::from_millis(50)).await.unwrap();
    assert!(
        !lagging.peers[0].is_caught_up && started.elapsed() < Duration::from_secs(4),
        "{lagging:?}"
    );

    let late = report(&**other, &first.position).await;
    let (caught_up, _) =
        tokio::join!(stores.feed.peers(Duration::from_secs(5)), report(&**other, &late.position));
    // A store may have asked for the peers before the report: then the caller asks again.
    let caught_up = caught_up.unwrap().peers[0].is_caught_up
        || peers(&*stores.feed).await.peers[0].is_caught_up;
    assert!(
        caught_up && started.elapsed() < Duration::from_secs(4),
        "after {:?}",
        started.elapsed()
    );
}
