//! The nodes of the store, as operators see them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::Fixture;

const NODES: &str = "/service/v1/nodes";

async fn nodes(f: &Fixture) -> Vec<Value> {
    let reply = f.service_get(NODES).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["nodes"].as_array().unwrap().clone()
}

#[tokio::test]
async fn node_is_listed_with_its_health_from_its_report_until_it_leaves() {
    let f = Fixture::new();
    assert_eq!(nodes(&f).await, [] as [Value; 0]);
    f.poll().await;
    // It goes on without end.
    tokio::time::timeout(Duration::from_secs(1), f.nodes.clone().report_regularly())
        .await
        .unwrap_err();
    let listed = nodes(&f).await;
    let [node] = &listed[..] else { panic!("one node, and not {listed:?}") };
    assert_eq!(node["host"], "a-host");
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&node["ready"], &node["cache"]), (&json!(true), &json!("none")));
    assert_eq!(node["cached_sessions"], "used");
    assert!(node["poll_age_seconds"].as_f64().unwrap() < 0.5, "{node}");
    assert!(node["reported_seconds_ago"].as_f64().unwrap() < 30.0, "{node}");
    for layer in ["near", "redis", "database"] {
        assert!(node["reads"][layer].is_u64(), "{node}");
    }
    f.nodes.leave().await;
    assert_eq!(nodes(&f).await, [] as [Value; 0]);
}
