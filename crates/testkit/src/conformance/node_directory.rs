//! What every [`NodeDirectory`] does.

use std::time::Duration;

use chrono::TimeDelta;
use domain::ports::{NodeDirectory, NodeReport};
use uuid::Uuid;

use crate::fixtures;

/// Runs the suite against the directory that the expression makes.
#[macro_export]
macro_rules! node_directory_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            node_directory,
            $fixture,
            $($must_fail,)?
            [
                report_replaces_the_one_before,
                every_node_is_listed_with_the_age_of_its_report,
                node_that_has_left_is_not_listed,
            ]
        );
    };
}

/// The report of a node that started so many seconds after [`fixtures::now`].
fn report_of(node: u128) -> NodeReport {
    NodeReport {
        node: Uuid::from_u128(node),
        host: format!("host-{node}"),
        version: "1.2.3".to_owned(),
        started_at: fixtures::now() + TimeDelta::seconds(node as i64),
        is_ready: true,
        shared_cache: "up".to_owned(),
        cached_sessions: "used".to_owned(),
        poll_age: Duration::from_millis(70),
        reads: [1, 2, u64::from(u32::MAX) + 1],
    }
}

async fn listed(directory: &dyn NodeDirectory) -> Vec<NodeReport> {
    directory.reports().await.unwrap().into_iter().map(|(report, _)| report).collect()
}

/// A node has one report, its last.
pub async fn report_replaces_the_one_before(directory: &dyn NodeDirectory) {
    directory.report(&report_of(1)).await.unwrap();
    let changed = NodeReport {
        is_ready: false,
        shared_cache: "down".to_owned(),
        cached_sessions: "poll_too_old".to_owned(),
        poll_age: Duration::from_secs(3),
        reads: [10, 20, 30],
        ..report_of(1)
    };
    directory.report(&changed).await.unwrap();
    assert_eq!(listed(directory).await, [changed], "the last report of the one node");
}

/// The nodes that started first come first, in whichever order they reported.
pub async fn every_node_is_listed_with_the_age_of_its_report(directory: &dyn NodeDirectory) {
    assert_eq!(directory.reports().await.unwrap(), [], "no node has reported");
    directory.report(&report_of(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    directory.report(&report_of(1)).await.unwrap();
    assert_eq!(
        listed(directory).await,
        [report_of(1), report_of(2)],
        "in the order of their start"
    );
    let reports = directory.reports().await.unwrap();
    let younger = reports[0].1;
    let older = reports[1].1;
    assert!(
        older >= younger + Duration::from_millis(290),
        "{older:?} is not older than {younger:?}"
    );
    assert!(older < Duration::from_secs(20), "{older:?} is no age of a report of this test");
}

/// The others stay.
pub async fn node_that_has_left_is_not_listed(directory: &dyn NodeDirectory) {
    for node in [1, 2] {
        directory.report(&report_of(node)).await.unwrap();
    }
    directory.leave(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(listed(directory).await, [report_of(2)], "one has left");
    directory.leave(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(listed(directory).await, [report_of(2)], "leaving again changes nothing");
}
