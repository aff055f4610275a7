//! What only PostgreSQL can show: its own types, migrations by many at once, and a server that dies
//! or hangs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters_postgres::{
    Migrated, OpenError, Options, PostgresDatabase, PostgresEventOutbox, PostgresSessionRepository,
    PostgresSessionRetention, SCHEMA_VERSION, inspect, migrate,
};
use chrono::TimeDelta;
use domain::ports::{
    EventOutbox, EventQuery, HealthCheck, PortError, SessionEdit, SessionRepository,
    SessionRetention,
};
use domain::{Actor, Revocation, Session};
use testkit::conformance::session_repository;
use testkit::fixtures;
use testkit::servers::{PostgresServer, TestDatabase};

async fn connect(database: &TestDatabase) -> Arc<PostgresDatabase> {
    Arc::new(PostgresDatabase::open(Options::to(&database.url(), 4)).await.unwrap())
}

async fn open(database: &TestDatabase) -> PostgresSessionRepository {
    PostgresSessionRepository::new(connect(database).await)
}

#[tokio::test]
async fn columns_have_native_types() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    repository.insert(&fixtures::session(), None).await.unwrap();

    let row = database.psql(
        "SELECT pg_typeof(id), pg_typeof(created_at), pg_typeof(ip_address), host(ip_address), \
            extract(microseconds FROM created_at) FROM sessions",
    );
    assert_eq!(row, "uuid|timestamp with time zone|inet|192.0.2.7|5123456");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_migrate_an_empty_database_at_once() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let nodes: Vec<_> = (0..5)
        .map(|_| {
            tokio::spawn({
                let url = url.clone();
                async move { migrate(&url).await }
            })
        })
        .collect();
    let mut worked = 0;
    for node in nodes {
        let migrated = node.await.unwrap().unwrap();
        assert_eq!(migrated.to, SCHEMA_VERSION);
        worked += usize::from(migrated.from.is_none());
    }
    assert_eq!(worked, 1);
    assert_eq!(database.psql("SELECT count(*) FROM seaql_migrations"), SCHEMA_VERSION.to_string());
    assert_eq!(
        database.psql(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
             WHERE locktype = 'advisory' AND datname = current_database()"
        ),
        "0"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused_only_if_it_says_so() {
    let database = PostgresServer::shared().database();
    open(&database).await;

    // A newer sessiond has been here, but says that this one can work beside it.
    database.psql("UPDATE sessiond_schema SET version = 99");
    assert_eq!(migrate(&database.url()).await.unwrap(), Migrated { from: Some(99), to: 99 });
    assert_eq!(inspect(&database.url()).await.unwrap().schema_version, Some(99));

    database.psql("UPDATE sessiond_schema SET oldest_able = 98");
    let error = PostgresDatabase::open(Options::to(&database.url(), 4)).await.err().unwrap();
    assert!(matches!(
        error,
        OpenError::NewerSchema { found: 99, needed: 98, known: SCHEMA_VERSION }
    ));
    assert!(error.to_string().contains("install a newer sessiond"));
}

#[tokio::test]
async fn an_infinite_time_is_refused_by_the_table() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    repository.insert(&fixtures::session(), None).await.unwrap();
    let error = database.try_psql("UPDATE sessions SET expires_at = 'infinity'").unwrap_err();
    assert!(error.contains("check constraint"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_said_without_repeating_it() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    assert!(migrate(&database.tcp_url_with_password()).await.is_ok());

    let error = migrate(&database.tcp_url("tr0ub4dor")).await.unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(!error.contains("tr0ub4dor") && !error.contains('\n'), "{error}");
}

/// A machine on which everything starts at once responds to the first statement late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_up_waits_for_a_slow_response() {
    let database = Arc::new(PostgresServer::shared().database());
    let node = connect(&database).await;
    let slow = database.clone();
    let holder = std::thread::spawn(move || {
        slow.psql("BEGIN; LOCK TABLE sessiond_secret; SELECT pg_sleep(1.5); COMMIT");
    });
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'sessiond_secret'::regclass";
    while database.psql(locks) == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(node.cache_key().await.unwrap(), [0; 32]);
    holder.join().unwrap();
}

#[tokio::test]
async fn absent_server_and_absent_database_are_reported_differently() {
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/x", testkit::servers::free_port());
    let error = migrate(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");

    let database = PostgresServer::shared().database();
    let error =
        migrate(&database.url().replace("sessiond_test", "absent")).await.unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

/// A server that hangs costs every call its time-out and no more, and is used again when it goes
/// on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_unavailable_within_a_second_and_used_again() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let connection = connect(&database).await;
    let repository = Arc::new(PostgresSessionRepository::new(connection.clone()));
    let session = fixtures::session();
    repository.insert(&session, None).await.unwrap();

    server.signal("STOP");
    for _ in 0..3 {
        // More at once than the pool has places.
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let repository = repository.clone();
                tokio::spawn(async move {
                    let started = Instant::now();
                    (repository.find_by_id(fixtures::session().id).await, started.elapsed())
                })
            })
            .collect();
        for call in calls {
            let (result, took) = call.await.unwrap();
            assert!(matches!(result, Err(PortError::Unavailable(_))), "{result:?}");
            assert!(took < Duration::from_millis(1100), "{took:?}");
        }
    }
    assert!(connection.check().await.is_err());

    server.signal("CONT");
    let healed = Instant::now();
    while repository.find_by_id(session.id).await.is_err() {
        assert!(healed.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..20 {
        assert_eq!(testkit::find_session(&*repository, session.id).await.as_ref(), Some(&session));
    }
}

/// Connections that the server has closed are no error for a read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_connections_cost_a_read_nothing() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    let session = fixtures::session();
    repository.insert(&session, None).await.unwrap();
    for _ in 0..20 {
        let find = || repository.find_by_id(session.id);
        let all = tokio::join!(find(), find(), find(), find());
        assert!([all.0, all.1, all.2, all.3].iter().all(Result::is_ok));
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \
                current_database() AND pid <> pg_backend_pid()",
        );
        assert_eq!(find().await.unwrap().map(|read| read.session).as_deref(), Some(&session));
    }
}

#[tokio::test]
async fn the_database_itself_refuses_to_take_back_or_rewrite_a_revocation() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    let revocation = Revocation {
        at: fixtures::now(),
        reason: Some("lost phone".into()),
        actor: Some(Actor::Service),
    };
    let session = Session { revocation: Some(revocation.into()), ..fixtures::session() };
    repository.insert(&session, None).await.unwrap();
    for change in [
        "revoked_at = NULL, revoked_reason = NULL, revoked_by = NULL",
        "revoked_at = now()",
        "revoked_reason = NULL",
        "revoked_by = 'x'",
    ] {
        let error = database.try_psql(&format!("UPDATE sessions SET {change}")).unwrap_err();
        assert!(error.contains("a revocation is final"), "{change}: {error}");
    }
    database.psql("UPDATE sessions SET name = 'renamed'");
    assert_eq!(
        testkit::find_session(&repository, session.id).await.unwrap().revocation,
        session.revocation
    );
}

/// However many events are unread, the history of one session is complete.
#[tokio::test]
async fn a_backlog_of_unread_events_hides_nothing() {
    let database = PostgresServer::shared().database();
    let connection = connect(&database).await;
    let repository = PostgresSessionRepository::new(connection.clone());
    database.psql(
        "INSERT INTO sessions (id, user_id, created_at, last_activity_at, expires_at)
         SELECT gen_random_uuid(), gen_random_uuid(), now(), now(), now() + interval '1 day' FROM
         generate_series(1, 12000)",
    );
    let session = fixtures::session();
    repository.insert(&session, None).await.unwrap();
    let outbox = PostgresEventOutbox::new(connection);
    let query = EventQuery { limit: 10, session_id: Some(session.id), ..EventQuery::default() };
    let events = outbox.events(&query).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].position, 12_001);
}

/// Concurrent reads are batched, and each caller gets the session that it asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_reads_return_the_session_that_each_caller_asked_for() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let repository = Arc::new(PostgresSessionRepository::new(connect(&database).await));
    for n in 0..50 {
        repository.insert(&fixtures::session_number(n), None).await.unwrap();
    }
    let mut reads = Vec::new();
    // Each session that there is, and each that there is not, several times.
    for n in (0..100).cycle().take(1000) {
        let repository = repository.clone();
        let id = fixtures::session_number(n).id;
        reads.push((n, id, tokio::spawn(async move { repository.find_by_id(id).await.unwrap() })));
    }
    for (n, id, read) in reads {
        let found = read.await.unwrap();
        assert_eq!(found.as_ref().map(|read| read.session.id), (n < 50).then_some(id));
        assert!(found.is_none_or(|read| read.version.is_some()));
    }
}

/// What a test has done to the default settings of its database.
fn set_default(database: &TestDatabase, setting: &str, value: &str) {
    let name = database.psql("SELECT current_database()");
    database.psql(&format!("ALTER DATABASE {name} SET {setting} = '{value}'"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_under_every_default_isolation() {
    for isolation in ["repeatable read", "serializable"] {
        let database = PostgresServer::shared().database();
        set_default(&database, "default_transaction_isolation", isolation);
        let repository = open(&database).await;
        session_repository::parallel_sign_ins_never_exceed_the_limit(&repository).await;
    }
}

/// A revocation by direct SQL is logged in the schema of its session, with any search path, and
/// also where tables of the same names exist in other schemas.
#[tokio::test]
async fn revocations_are_logged_beside_their_sessions_for_every_search_path() {
    let database = PostgresServer::shared().database();
    database.psql("CREATE SCHEMA tenant_a");
    database.psql("CREATE SCHEMA tenant_b");
    for schema in ["tenant_a", "tenant_b"] {
        let url = format!("{}&options=-c%20search_path%3D{schema}", database.url());
        migrate(&url).await.unwrap();
    }
    let insert =
        "INSERT INTO tenant_b.sessions (id, user_id, created_at, last_activity_at, expires_at)
        VALUES (gen_random_uuid(), gen_random_uuid(), now(), now(), now() + interval '1 day')";
    let update = "UPDATE tenant_b.sessions SET revoked_at = now() WHERE revoked_at IS NULL";
    let logged = || database.psql("SELECT count(*) FROM tenant_b.revocation_log");
    let paths = [
        "SET search_path = public",
        "SET search_path = tenant_a",
        // As in a script of pg_dump.
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "CREATE TEMPORARY TABLE revocation_log (session_id uuid, user_id uuid)",
    ];
    for (n, path) in paths.into_iter().enumerate() {
        database.psql(&format!("{path}; {insert}; {update}"));
        assert_eq!(logged(), (n + 1).to_string(), "{path}");
    }
    database.psql(
        "SET search_path = tenant_a; DELETE FROM tenant_b.sessions; TRUNCATE tenant_b.sessions",
    );
    assert_eq!(logged(), (paths.len() + 1).to_string());
    assert_eq!(database.psql("SELECT count(*) FROM tenant_a.revocation_log"), "0");
    assert_eq!(
        database.psql("SELECT count(*) FROM tenant_b.session_events"),
        (2 * paths.len()).to_string()
    );
}

#[tokio::test]
async fn revocations_are_logged_and_final_in_the_role_of_a_replica_too() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    repository.insert(&fixtures::session(), None).await.unwrap();
    let as_replica =
        |sql: &str| database.try_psql(&format!("SET session_replication_role = replica; {sql}"));
    as_replica("UPDATE sessions SET revoked_at = now()").unwrap();
    assert_eq!(database.psql("SELECT count(*) FROM revocation_log"), "1");
    let error = as_replica("UPDATE sessions SET revoked_at = NULL").unwrap_err();
    assert!(error.contains("a revocation is final"), "{error}");
}

/// One statement: were the session read after its change, a failure of the read would be reported
/// as a change that was not made, and another's later change as this one.
#[tokio::test]
async fn edit_returns_the_session_as_it_wrote_it() {
    let database = PostgresServer::shared().database();
    let repo = open(&database).await;
    let session = fixtures::session();
    repo.insert(&session, None).await.unwrap();
    database.psql(
        "CREATE FUNCTION change_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE sessions SET name = 'another' WHERE id = NEW.id AND name = 'mine';
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER change_again AFTER UPDATE ON sessions
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION change_again()",
    );
    let edit = SessionEdit { name: Some(Some("mine".into())), ..SessionEdit::default() };
    let edited = repo.edit(session.id, &edit).await.unwrap().unwrap();
    assert_eq!(edited.name.as_deref(), Some("mine"));
    let found = testkit::find_session(&repo, session.id).await.unwrap();
    assert_eq!(found.name.as_deref(), Some("another"), "the other change has been made");
}

#[tokio::test]
async fn the_id_of_a_session_is_final() {
    let database = PostgresServer::shared().database();
    let repository = open(&database).await;
    repository.insert(&fixtures::session(), None).await.unwrap();
    let error = database.try_psql("UPDATE sessions SET id = gen_random_uuid()").unwrap_err();
    assert!(error.contains("the id of a session is final"), "{error}");
    database.psql("UPDATE sessions SET id = id");
}

/// Support extends a session that was marked as expired, or the clock of the node that marked it
/// was ahead.
#[tokio::test]
async fn a_session_that_lives_again_is_not_cleaned_up_and_its_end_is_logged() {
    let database = PostgresServer::shared().database();
    let connection = connect(&database).await;
    let retention = PostgresSessionRetention::new(connection.clone());
    let repository = PostgresSessionRepository::new(connection);
    let now = fixtures::now();
    let session = Session { expires_at: now, idle_timeout: None, ..fixtures::session() };
    repository
        .insert(&Session { created_at: now - TimeDelta::hours(1), ..session.clone() }, None)
        .await
        .unwrap();
    assert_eq!(retention.mark_expired(now, 10).await.unwrap(), 1);
    database.psql("UPDATE sessions SET name = 'still expired'");
    assert_eq!(database.psql("SELECT count(*) FROM sessions WHERE expired_at IS NOT NULL"), "1");

    database.psql("UPDATE sessions SET expires_at = now() + interval '1 day'");
    assert_eq!(retention.delete_terminated(now + TimeDelta::days(1), 10).await.unwrap(), 0);
    let logged = || database.psql("SELECT count(*) FROM revocation_log").parse::<u32>().unwrap();
    let before = logged();
    database.psql("DELETE FROM sessions");
    assert_eq!(logged(), before + 1);
}

/// Activity changes no index, so it is written in place and leaves nothing behind for vacuum to
/// find.
#[tokio::test]
async fn activity_of_sessions_with_an_idle_time_out_is_written_in_place() {
    let database = PostgresServer::shared().database();
    migrate(&database.url()).await.unwrap();
    database.psql(
        "INSERT INTO sessions (id, user_id, created_at, last_activity_at, expires_at, idle_timeout)
         SELECT gen_random_uuid(), gen_random_uuid(), date_trunc('hour', now()), date_trunc('hour',
         now()), now() + '1 day', 7200000000
         FROM generate_series(1, 2000)",
    );
    let updated = database.psql(
        "WITH active AS (UPDATE sessions SET last_activity_at = last_activity_at + interval
            '1 second'
            WHERE id IN (SELECT id FROM sessions ORDER BY id LIMIT 100) RETURNING 1)
         SELECT count(*) FROM active;
         SELECT pg_stat_get_xact_tuples_hot_updated('sessions'::regclass)",
    );
    let in_place: u32 = updated.lines().last().unwrap().trim().parse().unwrap();
    assert!(in_place > 80, "{in_place} of 100");
}

/// A node whose clock is years ahead must not take what is live for expired, nor delete it.
#[tokio::test]
async fn expiry_is_judged_by_the_databases_clock_too() {
    let database = PostgresServer::shared().database();
    let open = connect(&database).await;
    let sessions = PostgresSessionRepository::new(open.clone());
    let retention = PostgresSessionRetention::new(open);
    let session = Session { idle_timeout: None, ..fixtures::session() };
    sessions.insert(&session, None).await.unwrap();
    database.psql("UPDATE sessions SET expires_at = now() + interval '1 hour'");
    let ahead = fixtures::now() + TimeDelta::days(36_500);
    assert_eq!(retention.mark_expired(ahead, 10).await.unwrap(), 0);
    assert_eq!(retention.delete_terminated(ahead, 10).await.unwrap(), 0);
    database.psql("UPDATE sessions SET expires_at = now() - interval '1 hour'");
    assert_eq!(retention.mark_expired(ahead, 10).await.unwrap(), 1);
}
