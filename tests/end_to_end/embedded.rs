//! With nothing configured: SQLite, development keys, loopback.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::TemporaryDir;

use sessiond_tests::node::{ALICE, BOB, Node, but_for_use, run, sessiond};

#[tokio::test]
async fn a_session_is_created_and_served_from_database_and_cache() {
    let node = Node::start(&[]).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);

    let first = node.read(&session, &token).await;
    assert_eq!(
        (first.status, first.cache_status.as_str()),
        (200, "sessiond; fwd=miss; detail=database")
    );
    assert_eq!(first.body["status"], "live");
    assert_eq!(first.body["ip_address"], "192.0.2.7");
    node.read_from_cache(&session, ALICE, "near").await;
    let second = node.read(&session, &token).await;
    assert_eq!(but_for_use(first.body), but_for_use(second.body));

    let stranger = node.create(BOB).await;
    let token = node.mint(BOB, &stranger);
    let anothers = node.read(&session, &token).await;
    let unknown = node.read("00000000-0000-7000-8000-000000000000", &token).await;
    assert_eq!((anothers.status, unknown.status), (404, 404));
    assert_eq!(anothers.body, unknown.body);

    assert_eq!(node.service_read(&session, BOB).await.status, 403);
    let (status, metrics) = node.page("/metrics").await;
    assert_eq!(status, 200);
    let near =
        metrics.lines().find_map(|line| line.strip_prefix("sessiond_reads_total{layer=\"near\"} "));
    assert!(near.is_some_and(|reads| reads.parse::<u32>().unwrap() > 0), "{metrics}");
}

#[tokio::test]
async fn sessions_outlive_the_process_and_so_do_the_keys() {
    let node = Node::start(&[]).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    let database = format!("sqlite://{}", node.dir.path().join("sessiond.db").display());
    for name in ["sessiond.db", "sessiond-dev-token-secret", "sessiond-dev-service-key"] {
        let mode = std::fs::metadata(node.dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    // A second process on the same file is refused, with the reason.
    let other = TemporaryDir::new();
    let refused = run(&mut sessiond(other.path(), &[("SESSIOND_STORE__URL", &database)]));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let last = message.lines().last().unwrap();
    assert!(
        last.contains("is in use by another sessiond (process")
            && last.starts_with("error: store.url"),
        "{message}"
    );

    // Killed, not stopped: what was acknowledged is there.
    node.signal("KILL");
    let mut node = node;
    node.child.wait().unwrap();
    let again = Node::start_in(other, &[("SESSIOND_STORE__URL", &database)]).await;
    let read = again.read(&session, &token).await;
    assert_eq!((read.status, read.body["status"].clone()), (200, json!("live")));
}

#[tokio::test]
async fn the_session_verbs_talk_to_the_running_node() {
    let node = Node::start(&[]).await;
    let command = |arguments: &[&str]| {
        let output =
            run(sessiond(node.dir.path(), &[]).args(arguments).args(["--url", &node.service]));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, created, _) =
        command(&["session", "create", "--user", ALICE, "--ip", "192.0.2.9", "--json"]);
    assert_eq!(code, Some(0));
    let created: Value = serde_json::from_str(&created).unwrap();
    let id = created["id"].as_str().unwrap();
    assert_eq!((&created["ip_address"], &created["evicted"]), (&json!("192.0.2.9"), &json!([])));

    let (code, table, _) = command(&["session", "get", id]);
    assert_eq!(code, Some(0));
    assert!(table.contains("status            live") && table.contains(id), "{table}");
    let (code, owned, _) = command(&["session", "get", id, "--user", ALICE, "--json"]);
    assert_eq!(
        (code, serde_json::from_str::<Value>(&owned).unwrap()["id"].as_str()),
        (Some(0), Some(id))
    );

    let (code, out, error) = command(&["session", "get", id, "--user", BOB]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(error, "error: not_session_owner: The session belongs to another user\n");
    let (code, _, error) =
        command(&["session", "create", "--user", ALICE, "--expires-at", "2001-01-01T00:00:00Z"]);
    assert_eq!(
        (code, error.contains("expires_at: must be in the future")),
        (Some(1), true),
        "{error}"
    );
    assert_eq!(command(&["session", "get", "nonsense"]).0, Some(2));

    let other = node.create(ALICE).await;
    let (code, list, _) = command(&["session", "list", "--user", ALICE, "--limit", "1"]);
    assert!(
        code == Some(0) && list.ends_with("2 in all, 2 live; there are more than are shown\n"),
        "{list}"
    );
    let (code, text, _) = command(&["session", "revoke", id, "--reason", "lost phone"]);
    assert_eq!((code, text), (Some(0), format!("session {id} revoked\n")));
    let (_, table, _) = command(&["session", "get", id]);
    assert!(table.contains("revoked_reason    lost phone"), "{table}");
    let all = ["session", "revoke-all", "--user", ALICE, "--json"];
    let (code, counted, _) = command(&[&all[..], &["--except", &other]].concat());
    assert_eq!(
        (code, serde_json::from_str::<Value>(&counted).unwrap()),
        (Some(0), json!({ "revoked_count": 0 }))
    );
    let (_, counted, _) = command(&all);
    assert_eq!(serde_json::from_str::<Value>(&counted).unwrap(), json!({ "revoked_count": 1 }));
    let (_, list, _) = command(&["session", "list", "--user", ALICE, "--active"]);
    assert!(list.ends_with("2 in all, 0 live\n"), "{list}");
}

#[tokio::test]
async fn doctor_checks_beside_a_running_node_and_without_one() {
    let doctor = |dir: &TemporaryDir| {
        let output = run(sessiond(dir.path(), &[]).args(["doctor", "--json"]));
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap().to_string())
    };
    let dir = TemporaryDir::new();
    let (code, text) = doctor(&dir);
    assert!(code == Some(0) && text.contains("the first start makes the file"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "doctor makes nothing");

    let node = Node::start_in(dir, &[]).await;
    let (code, text) = doctor(&node.dir);
    assert!(code == Some(0) && text.contains("a running node uses the file"), "{text}");
}

/// What an operator does on the command line: search, count, revoke.
#[tokio::test]
async fn sessions_are_searched_and_revoked_by_conditions() {
    let node = Node::start(&[]).await;
    let kept = node.create(BOB).await;
    let revoked = node.create(ALICE).await;
    let alices = format!("user_id={ALICE}");
    let found = node.command(&["session", "search", &alices, "status=live", "ip=192.0.2.7"]);
    assert!(found.contains(&revoked) && !found.contains(&kept), "{found}");
    assert!(found.contains("1 found"), "{found}");

    let counted = node.command(&["session", "revoke", "--filter", &alices, "--dry-run"]);
    assert_eq!(counted, "sessions that would be revoked: 1\n");
    let text = node.command(&[
        "session",
        "revoke",
        "--filter",
        &alices,
        "device=CURL",
        "--reason",
        "left",
        "--json",
    ]);
    let response: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(response["revoked_count"], 1);
    let found = node.command(&["session", "search", "--limit", "1", "--json"]);
    let page: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(page["sessions"][0]["revoked_reason"], "left");
    assert!(page["next_cursor"].is_string(), "there is another: {page}");
    let live = node.command(&["session", "search", "status=live"]);
    assert!(live.contains(&kept) && live.contains("1 found"), "{live}");

    let dir = TemporaryDir::new();
    for (arguments, message) in [
        (vec!["session", "search", "name=x"], "must be KEY=VALUE, with one of user_id, status"),
        (vec!["session", "search", "ip="], "must be KEY=VALUE"),
        (vec!["session", "revoke"], "required"),
    ] {
        let refused = run(sessiond(dir.path(), &[]).args(&arguments));
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}
