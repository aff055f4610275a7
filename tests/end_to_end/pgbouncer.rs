//! PostgreSQL behind PgBouncer with its defaults: in session mode, and in transaction mode without
//! named statements.

use std::sync::Arc;

use sessiond_tests::node::{ALICE, BOB, Node, run, sessiond};
use testkit::TemporaryDir;
use testkit::servers::{PgBouncer, PostgresServer};

/// Signs in, reads and revokes, several at a time, and finds each session as it should be, on both
/// nodes.
async fn assert_serves(nodes: &[Arc<Node>; 2]) {
    let mut users = Vec::new();
    for user in 0..8 {
        let nodes = nodes.clone();
        users.push(tokio::spawn(async move {
            let here = &nodes[user % 2];
            let there = &nodes[(user + 1) % 2];
            let owner = if user < 4 { ALICE } else { BOB };
            for _ in 0..12 {
                let session = here.create(owner).await;
                let token = there.mint(owner, &session);
                assert_eq!(there.read(&session, &token).await.status, 200);
                assert_eq!(here.read(&session, &here.mint(owner, &session)).await.status, 200);
                here.revoke(&session).await;
                assert_eq!(there.read(&session, &token).await.status, 401);
            }
        }));
    }
    for user in users {
        user.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_mode_serves() {
    let database = PostgresServer::shared().database();
    // Two nodes have 4 connections each, and a few for the revocation log.
    let pooler = PgBouncer::start(&database, "session", 30);
    let url = pooler.url();
    let direct = database.url();
    for direct in [None, Some(direct.as_str())] {
        let mut settings =
            vec![("SESSIOND_STORE__URL", url.as_str()), ("SESSIOND_STORE__POOL_SIZE", "4")];
        settings.extend(direct.map(|direct| ("SESSIOND_STORE__DIRECT_URL", direct)));
        let nodes =
            [Arc::new(Node::start(&settings).await), Arc::new(Node::start(&settings).await)];
        assert_serves(&nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_mode_serves_without_named_statements() {
    let database = PostgresServer::shared().database();
    // What is lost on the way would be used: neither may be.
    let name = database.psql("SELECT current_database()");
    database.psql(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    database
        .psql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = serializable"));
    // Far fewer than the nodes' connections: each is many clients' in turn.
    let pooler = PgBouncer::start(&database, "transaction", 3);
    let url = pooler.url();
    let direct = database.url();
    let settings = [
        ("SESSIOND_STORE__URL", url.as_str()),
        ("SESSIOND_STORE__DIRECT_URL", direct.as_str()),
        ("SESSIOND_STORE__PREPARED", "false"),
        ("SESSIOND_STORE__POOL_SIZE", "8"),
    ];
    let nodes = [Arc::new(Node::start(&settings).await), Arc::new(Node::start(&settings).await)];
    assert_serves(&nodes).await;
    let doctor = run(sessiond(TemporaryDir::new().path(), &settings).arg("doctor"));
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[tokio::test]
async fn node_that_must_not_migrate_says_so_and_serves_once_the_schema_is_there() {
    let database = PostgresServer::shared().database();
    let dir = TemporaryDir::new();
    let url = database.url();
    let settings = [("SESSIOND_STORE__URL", url.as_str()), ("SESSIOND_STORE__MIGRATE", "false")];
    let refused = run(&mut sessiond(dir.path(), &settings));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1)
            && error.contains("no schema")
            && error.contains("sessiond migrate"),
        "{error}"
    );
    assert_eq!(database.psql("SELECT to_regclass('sessions') IS NULL"), "t");
    assert!(run(sessiond(dir.path(), &settings).arg("migrate")).status.success());
    let node = Node::start(&settings).await;
    node.create(ALICE).await;
}
