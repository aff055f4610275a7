//! Operators see every node of a database, whichever they ask.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::servers::PostgresServer;

use sessiond_tests::node::{ALICE, Node};

/// How long a report may take to show: the interval of reports, and a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Returns the nodes, once `wanted` holds of them.
async fn nodes_when(node: &Node, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let (status, body) = node.service(Method::GET, "nodes", json!({})).await;
        let nodes = body["nodes"].as_array().cloned().unwrap_or_default();
        if status == 200 && wanted(&nodes) {
            return nodes;
        }
        assert!(began.elapsed() < SOON, "{status} {body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn every_node_is_listed_with_its_reads_and_its_silence() {
    let database = PostgresServer::shared().database();
    let store = database.url();
    let settings = [("SESSIOND_STORE__URL", store.as_str())];
    let first = Node::start(&settings).await;
    let mut second = Node::start(&settings).await;
    let third = Node::start(&settings).await;
    let session = second.create(ALICE).await;
    for _ in 0..5 {
        assert_eq!(second.service_read(&session, ALICE).await.status, 200);
    }
    let served = |node: &Value| {
        let reads = node["reads"].as_object().unwrap().values();
        reads.map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    let nodes = nodes_when(&first, |nodes| nodes.len() == 3 && served(&nodes[1]) >= 5).await;
    assert_eq!((served(&nodes[0]), served(&nodes[2])), (0, 0), "{nodes:?}");
    for node in &nodes {
        assert_eq!((&node["ready"], &node["cached_sessions"]), (&json!(true), &json!("used")));
        assert!(!node["host"].as_str().unwrap().is_empty(), "{node}");
    }

    // One leaves in an orderly way, and one does not.
    second.stop();
    third.signal("KILL");
    let silent = |node: &Value| node["reported_seconds_ago"].as_f64().unwrap() > 6.0;
    let nodes = nodes_when(&first, |nodes| nodes.len() == 2 && silent(&nodes[1])).await;
    assert!(!silent(&nodes[0]), "the node that is asked goes on reporting: {nodes:?}");
}
