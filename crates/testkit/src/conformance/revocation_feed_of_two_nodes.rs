//! What every [`RevocationFeed`](domain::ports::RevocationFeed) does that several nodes can share. An adapter whose store
//! belongs to one node does not run this suite.

use super::TwoNodes;
use super::revocation_feed::{DELTA, is_covered, look, revocation};
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
                who_is_not_registered_learns_nothing,
                other_nodes_are_behind_until_they_say_otherwise,
            ]
        );
    };
}

/// A node that was taken off the list has to register again.
pub async fn who_is_not_registered_learns_nothing(nodes: &TwoNodes) {
    let TwoNodes { stores, other_feed: other } = nodes;
    assert_eq!(stores.feed.look(None, None).await.unwrap(), None);
    stores.feed.register(DELTA).await.unwrap();
    assert!(stores.feed.look(None, None).await.unwrap().is_some());
    other.register(DELTA).await.unwrap();
    let mut seen = other.mark().await.unwrap().others;
    assert_eq!((seen.len(), seen[0].delta), (1, DELTA));
    // It has looked again meanwhile.
    stores.feed.look(None, None).await.unwrap();
    other.remove(&seen[0]).await.unwrap();
    assert!(stores.feed.look(None, None).await.unwrap().is_some());
    seen = other.mark().await.unwrap().others;
    other.remove(&seen[0]).await.unwrap();
    assert_eq!(stores.feed.look(None, None).await.unwrap(), None);
    assert_eq!(other.mark().await.unwrap().others, []);
}

/// A node has passed a mark when it has merged a look that was sent after it, and said so.
pub async fn other_nodes_are_behind_until_they_say_otherwise(nodes: &TwoNodes) {
    let TwoNodes { stores, other_feed: other } = nodes;
    stores.feed.register(DELTA).await.unwrap();
    assert_eq!(stores.feed.mark().await.unwrap().others, []);
    other.register(DELTA).await.unwrap();
    let early = look(&**other, None).await;
    let session = fixtures::session();
    stores.sessions.insert(&session, None).await.unwrap();
    stores.sessions.revoke(&[session.id], &revocation()).await.unwrap();
    let mark = stores.feed.mark().await.unwrap();
    assert_eq!(mark.others.len(), 1);
    let behind = async || stores.feed.behind(mark.change).await.unwrap().len();

    assert_eq!(behind().await, 1);
    let late = other.look(Some(early.page.next), Some(&early.moment)).await.unwrap().unwrap();
    assert!(is_covered(&late.page.ends, session.id, session.user_id));
    assert_eq!(behind().await, 1, "that it has seen the end is not to have merged it");
    other.look(Some(late.page.next), Some(&late.moment)).await.unwrap();
    assert_eq!(behind().await, 0);
    other.leave().await.unwrap();
    assert_eq!(stores.feed.mark().await.unwrap().others, []);
}
