//! What only SQLite can show: one process a file, and what is on the disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use adapters_sqlite::{
    DatabaseFile, Migrated, OpenError, SCHEMA_VERSION, SqliteDatabase, SqliteRevocationFeed,
    SqliteSessionRepository, SqliteSessionRetention, inspect, migrate,
};
use chrono::TimeDelta;
use domain::ports::{HealthCheck, PortError, RevocationFeed, SessionRepository, SessionRetention};
use domain::{Actor, Revocation, Session};
use sea_orm::{ConnectionTrait, Database};
use testkit::{TemporaryDir, fixtures};

fn url(dir: &TemporaryDir) -> String {
    format!("sqlite://{}", dir.path().join("sessions.db").display())
}

async fn connect(dir: &TemporaryDir) -> Arc<SqliteDatabase> {
    Arc::new(SqliteDatabase::open(DatabaseFile::lock(&url(dir)).unwrap(), 2).await.unwrap())
}

async fn open(dir: &TemporaryDir) -> SqliteSessionRepository {
    SqliteSessionRepository::new(connect(dir).await)
}

/// Runs SQL on the file as an operator's tool would, beside the lock.
async fn sql(dir: &TemporaryDir, sql: &str) {
    let database = Database::connect(url(dir)).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_first_ones_id() {
    let dir = TemporaryDir::new();
    let first = open(&dir).await;
    let error = DatabaseFile::lock(&url(&dir)).err().unwrap();
    assert!(
        matches!(error, OpenError::InUse { process: Some(id), .. } if id == std::process::id())
    );
    assert!(error.to_string().contains("one SQLite file serves one process"), "{error}");

    drop(first);
    assert!(DatabaseFile::lock(&url(&dir)).is_ok());
}

#[tokio::test]
async fn written_session_is_there_after_a_restart() {
    let dir = TemporaryDir::new();
    let session = fixtures::session();
    let database = connect(&dir).await;
    SqliteSessionRepository::new(database.clone()).insert(&session, None).await.unwrap();
    database.close().await;
    drop(database);

    assert_eq!(testkit::find_session(&open(&dir).await, session.id).await, Some(session));
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_in_wal_mode() {
    let dir = TemporaryDir::new();
    let repository = open(&dir).await;
    repository.insert(&fixtures::session(), None).await.unwrap();
    let file = dir.path().join("sessions.db");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(dir.path().join("sessions.db-wal").exists());
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let dir = TemporaryDir::new();
    let file = DatabaseFile::lock(&url(&dir)).unwrap();
    assert_eq!(inspect(&file).await.unwrap(), None);
    assert_eq!(migrate(&file).await.unwrap(), Migrated { from: None, to: SCHEMA_VERSION });
    assert_eq!(
        migrate(&file).await.unwrap(),
        Migrated { from: Some(SCHEMA_VERSION), to: SCHEMA_VERSION }
    );
    assert_eq!(inspect(&file).await.unwrap(), Some(SCHEMA_VERSION));
}

#[tokio::test]
async fn a_newer_schema_is_refused_only_if_it_says_so() {
    let dir = TemporaryDir::new();
    drop(open(&dir).await);

    sql(&dir, "UPDATE sessiond_schema SET version = 99").await;
    assert_eq!(
        migrate(&DatabaseFile::lock(&url(&dir)).unwrap()).await.unwrap(),
        Migrated { from: Some(99), to: 99 }
    );

    sql(&dir, "UPDATE sessiond_schema SET oldest_able = 98").await;
    let error = migrate(&DatabaseFile::lock(&url(&dir)).unwrap()).await.unwrap_err();
    assert!(matches!(
        error,
        OpenError::NewerSchema { found: 99, needed: 98, known: SCHEMA_VERSION }
    ));
}

#[tokio::test]
async fn a_corrupt_row_is_named_and_is_no_absence() {
    let dir = TemporaryDir::new();
    let repository = open(&dir).await;
    let session = fixtures::session();
    repository.insert(&session, None).await.unwrap();
    for (column, value) in [("ip_address", "'nonsense'"), ("last_ip_address", "'1.2.3'")] {
        sql(&dir, &format!("UPDATE sessions SET {column} = {value}")).await;
        let error = repository.find_by_id(session.id).await.unwrap_err();
        let PortError::Corrupt(source) = error else { panic!("{error:?}") };
        assert_eq!(
            source.to_string(),
            format!("sessions.{column} of row {} cannot be read", session.id)
        );
        sql(&dir, &format!("UPDATE sessions SET {column} = NULL")).await;
    }
}

#[tokio::test]
async fn another_processs_lock_inside_the_file_makes_writes_unavailable_and_leaves_reads_alone() {
    let dir = TemporaryDir::new();
    let database = connect(&dir).await;
    let repository = SqliteSessionRepository::new(database.clone());
    repository.insert(&fixtures::session(), None).await.unwrap();
    let other = Database::connect(url(&dir)).await.unwrap();
    other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();

    let second = Session { id: fixtures::session_number(2).id, ..fixtures::session() };
    assert!(matches!(repository.insert(&second, None).await, Err(PortError::Unavailable(_))));
    assert!(testkit::find_session(&repository, fixtures::session().id).await.is_some());
    assert!(database.check().await.is_ok());

    other.execute_unprepared("ROLLBACK").await.unwrap();
    repository.insert(&second, None).await.unwrap();
}

#[tokio::test]
async fn unusable_file_is_reported() {
    let dir = TemporaryDir::new();
    for url in ["sqlite://", "sqlite::memory:", "postgres://x", "sqlite://a.db?mode=ro"] {
        assert!(matches!(DatabaseFile::lock(url), Err(OpenError::Url)), "{url}");
    }
    let absent = format!("sqlite://{}/absent/sessions.db", dir.path().display());
    assert!(
        DatabaseFile::lock(&absent)
            .err()
            .unwrap()
            .to_string()
            .contains("No such file or directory")
    );

    std::fs::write(dir.path().join("sessions.db"), "This is a text, not a database.".repeat(100))
        .unwrap();
    let file = DatabaseFile::lock(&url(&dir)).unwrap();
    let error = migrate(&file).await.unwrap_err().to_string();
    assert!(error.contains("sessions.db") && error.contains("not a database"), "{error}");
}

#[tokio::test]
async fn the_file_itself_refuses_to_take_back_or_rewrite_a_revocation() {
    let dir = TemporaryDir::new();
    let repository = open(&dir).await;
    let revocation = Revocation {
        at: fixtures::now(),
        reason: Some("lost phone".into()),
        actor: Some(Actor::Service),
    };
    let session = Session { revocation: Some(revocation.into()), ..fixtures::session() };
    repository.insert(&session, None).await.unwrap();
    let database = Database::connect(url(&dir)).await.unwrap();
    for change in [
        "revoked_at = NULL, revoked_reason = NULL, revoked_by = NULL",
        "revoked_at = 1",
        "revoked_reason = NULL",
        "revoked_by = 'x'",
    ] {
        let error = database
            .execute_unprepared(&format!("UPDATE sessions SET {change}"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("a revocation is final"), "{change}: {error}");
    }
    database.execute_unprepared("UPDATE sessions SET name = 'renamed'").await.unwrap();
    assert_eq!(
        testkit::find_session(&repository, session.id).await.unwrap().revocation,
        session.revocation
    );
}

/// Two processes that each take themselves for the only one would acknowledge revocations that the
/// other has not polled.
#[test]
fn file_is_locked_under_each_of_its_names() {
    let dir = TemporaryDir::new();
    let path = |name: &str| dir.path().join(name);
    let lock = |name: &str| DatabaseFile::lock(&format!("sqlite://{}", path(name).display()));
    let held = lock("sessions.db").unwrap();
    std::os::unix::fs::symlink("sessions.db", path("link.db")).unwrap();
    std::fs::hard_link(path("sessions.db"), path("hard.db")).unwrap();
    for name in ["sessions.db", "link.db", "hard.db"] {
        let error = lock(name).err().unwrap_or_else(|| panic!("{name} is taken for another file"));
        assert!(matches!(error, OpenError::InUse { .. }), "{name}: {error}");
    }
    drop(held);
    for name in ["hard.db", "link.db"] {
        assert!(lock(name).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn the_id_of_a_session_is_final() {
    let dir = TemporaryDir::new();
    let repository = open(&dir).await;
    repository.insert(&fixtures::session(), None).await.unwrap();
    let database = Database::connect(url(&dir)).await.unwrap();
    let error =
        database.execute_unprepared("UPDATE sessions SET id = randomblob(16)").await.unwrap_err();
    assert!(error.to_string().contains("the id of a session is final"), "{error}");
    database.execute_unprepared("UPDATE sessions SET id = id").await.unwrap();
}

/// Support extends a session that was marked as expired.
#[tokio::test]
async fn a_session_that_lives_again_is_not_cleaned_up_and_its_end_is_logged() {
    let dir = TemporaryDir::new();
    let connection = connect(&dir).await;
    let retention = SqliteSessionRetention::new(connection.clone());
    let feed = SqliteRevocationFeed::new(connection.clone());
    let repository = SqliteSessionRepository::new(connection);
    let now = fixtures::now();
    let day = TimeDelta::days(1);
    let session = Session {
        created_at: now - day,
        expires_at: now,
        idle_timeout: None,
        ..fixtures::session()
    };
    repository.insert(&session, None).await.unwrap();
    assert_eq!(retention.mark_expired(now, 10).await.unwrap(), 1);

    sql(
        &dir,
        &format!(
            "UPDATE sessions SET expires_at = expires_at + {}",
            day.num_microseconds().unwrap()
        ),
    )
    .await;
    assert_eq!(retention.delete_terminated(now + day, 10).await.unwrap(), 0);
    assert!(testkit::find_session(&repository, session.id).await.unwrap().is_live(now));
    feed.register(Duration::from_millis(500)).await.unwrap();
    let position = feed.poll(None, true).await.unwrap().unwrap().position;
    sql(&dir, "DELETE FROM sessions").await;
    let page = feed.poll(Some(&position), true).await.unwrap().unwrap().page;
    assert_eq!(page.entries.len(), 1, "{page:?}");
}

/// What is written to a file that has no name any more is lost with the process.
#[tokio::test]
async fn file_that_was_deleted_or_replaced_makes_the_database_unready() {
    let dir = TemporaryDir::new();
    let path = dir.path().join("sessiond.db");
    let file = DatabaseFile::lock(&format!("sqlite://{}", path.display())).unwrap();
    let database = SqliteDatabase::open(file, 1).await.unwrap();
    assert!(database.check().await.is_ok());
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    assert!(database.check().await.is_err());
    std::fs::write(&path, "another").unwrap();
    assert!(database.check().await.is_err());
    std::fs::rename(dir.path().join("moved"), &path).unwrap();
    assert!(database.check().await.is_ok());
}
