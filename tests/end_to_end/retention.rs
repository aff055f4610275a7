//! Purging terminated sessions, and importing those of another system.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::TemporaryDir;
use testkit::servers::PostgresServer;

use sessiond_tests::DASHTAM_SESSIONS;
use sessiond_tests::node::{ALICE, Node, run, sessiond};

/// Sessions that have expired, are revoked, or live, by direct SQL.
const SEED: &str = "INSERT INTO sessions (id, user_id, created_at, last_activity_at, expires_at,
    revoked_at)
    SELECT gen_random_uuid(), gen_random_uuid(), now() - interval '3 days', now() - interval
    '3 days',
        CASE WHEN n <= 3000 THEN now() - interval '1 day' ELSE now() + interval '1 day' END,
        CASE WHEN n > 3000 AND n <= 5000 THEN now() - interval '2 days' END
    FROM generate_series(1, 5100) AS n";

#[tokio::test]
async fn two_nodes_purge_terminated_sessions_once() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let settings = [
        ("SESSIOND_STORE__URL", url.as_str()),
        // A node cleans up for the first time after a tenth of that, when both nodes are there and
        // checked.
        ("SESSIOND_CLEANUP__INTERVAL", "15s"),
        ("SESSIOND_CLEANUP__RETENTION", "1h"),
    ];
    let dir = TemporaryDir::new();
    assert!(run(sessiond(dir.path(), &settings).arg("migrate")).status.success());
    database.psql(SEED);
    let nodes = [Node::start(&settings).await, Node::start(&settings).await];
    let count = |table: &str| database.psql(&format!("SELECT count(*) FROM {table}"));
    let started = Instant::now();
    let mut backlog_was_seen = false;
    while count("sessions") != "100" {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{} sessions are left",
            count("sessions")
        );
        // The node that is quicker may leave nothing for the other to count.
        for node in &nodes {
            let metrics = node.page("/metrics").await.1;
            let backlog =
                metrics.lines().find_map(|line| line.strip_prefix("sessiond_cleanup_backlog "));
            backlog_was_seen |= backlog.is_some_and(|backlog| backlog != "0");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(backlog_was_seen);
    assert_eq!(count("session_events WHERE kind = 'expired'"), "3000");
    assert_eq!(
        count("session_events WHERE kind = 'expired' AND reason = 'lifetime' AND actor = 'system'"),
        "3000"
    );
}

#[tokio::test]
async fn cleanup_command_purges_at_once_and_leaves_a_running_nodes_file_alone() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let settings = [("SESSIOND_STORE__URL", url.as_str()), ("SESSIOND_CLEANUP__RETENTION", "36h")];
    let dir = TemporaryDir::new();
    assert!(run(sessiond(dir.path(), &settings).arg("migrate")).status.success());
    database.psql(SEED);
    let output = run(sessiond(dir.path(), &settings).args(["cleanup", "--json"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cleaned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&cleaned["expired"], &cleaned["deleted"]), (&3000.into(), &2000.into()));
    let output = run(sessiond(dir.path(), &settings).arg("cleanup"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("sessions deleted: 0"));

    let node = Node::start(&[]).await;
    for arguments in [&["cleanup"][..], &["import", "dashtam", "--from", &url]] {
        let output = run(sessiond(node.dir.path(), &[]).args(arguments));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(message.contains("in use by another sessiond"), "{message}");
    }
}

#[tokio::test]
async fn sessions_of_the_original_are_imported_repeatedly_without_duplicates() {
    let original = PostgresServer::shared().database();
    original.psql(DASHTAM_SESSIONS);
    let database = PostgresServer::shared().database();
    let from = original.url();
    let to = database.url();
    let dir = TemporaryDir::new();
    let file = format!("sqlite://{}/sessions.db", dir.path().display());
    for store in [to.as_str(), file.as_str()] {
        let import = || {
            let settings = [("SESSIOND_STORE__URL", store)];
            let output = run(sessiond(dir.path(), &settings).args([
                "import",
                "dashtam",
                "--json",
                "--from",
                from.as_str(),
            ]));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            (
                report["read"].as_u64().unwrap(),
                report["new"].as_u64().unwrap(),
                report["never_expired"].as_u64().unwrap(),
            )
        };
        assert_eq!(import(), (1234, 1234, 617));
        assert_eq!(import(), (1234, 0, 617));
    }
    let count = |condition: &str| {
        database.psql(&format!("SELECT count(*) FROM sessions WHERE {condition}"))
    };
    assert_eq!(count("revoked_at IS NOT NULL AND revoked_reason = 'logout'"), "246");
    assert_eq!(count("expires_at = created_at + interval '30 days'"), "617");
    assert_eq!(count("last_activity_at = created_at AND octet_length(user_agent) = 512"), "1234");
    let metadata = database.psql("SELECT DISTINCT metadata FROM sessions");
    let expected = concat!(
        r#"{"is_trusted": true, "providers_accessed": ["plaid", "schwab"], "#,
        r#""last_provider_accessed": "plaid", "suspicious_activity_count": 3}"#
    );
    assert_eq!(metadata, expected);

    // What is revoked there later is revoked here by the next run, with an event.
    original.psql(
        "UPDATE sessions SET is_revoked = true, revoked_reason = 'late' WHERE id::text \
        LIKE '%0007'",
    );
    let settings = [("SESSIOND_STORE__URL", to.as_str())];
    let output = run(sessiond(dir.path(), &settings).args(["import", "dashtam", "--from", &from]));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(
        report.contains("new here: 0") && report.contains("never expired there: 617"),
        "{report}"
    );
    assert_eq!(count("revoked_reason = 'late'"), "1");
    assert_eq!(database.psql("SELECT count(*) FROM session_events WHERE reason = 'late'"), "1");

    let node = Node::start(&settings).await;
    let session = "00000000-0000-4000-9000-000000000002";
    assert_eq!(
        node.read(session, &node.mint(ALICE, session)).await.body["device_info"],
        "Chrome on macOS"
    );
}

#[test]
fn source_that_is_no_database_is_reported() {
    let dir = TemporaryDir::new();
    let database = PostgresServer::shared().database();
    for (from, says) in [
        ("nonsense", "not a PostgreSQL URL"),
        ("postgres://u:s3cret@127.0.0.1:1/x", "refused"),
        (database.url().as_str(), "relation \"sessions\" does not exist"),
    ] {
        let output = run(sessiond(dir.path(), &[]).args(["import", "dashtam", "--from", from]));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            message.contains(says) && !message.contains("s3cret") && message.lines().count() == 1,
            "{message}"
        );
    }
}
