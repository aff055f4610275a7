use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::coherence::{FeedPage, LoggedEnd, Scope};
use domain::ports::{Look, Mark, OtherNode, PortError, RevocationFeed};
use domain::{SessionId, UserId};
use fail::fail_point;
use sea_orm::prelude::Json;
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::postgres_database::{CURSOR_ACROSS_A_FAILOVER, PostgresDatabase, incarnation};

/// Entries that one look brings at most.
const LOOK_LIMIT: i64 = 20_000;

const REGISTER: &str = "INSERT INTO node_lease (node, delta_ms) VALUES ($1, $2)
    ON CONFLICT (node) DO UPDATE SET delta_ms = EXCLUDED.delta_ms, applied = NULL, applied_timeline = NULL";

/// One statement, so one snapshot: the lease is renewed and there, and the log is read, at the same moment. The next look begins at
/// the snapshot's xmin and not after the last entry, because transactions commit in another order than they wrote.
///
/// After a crash it begins a timeline; of several nodes that do so at once, one does, and the others look again. On a standby an unlogged table
/// cannot be read, and so the look fails.
const LOOK: &str = "WITH lease AS (
        UPDATE node_lease SET renewals = renewals + 1, applied = $3::pg_snapshot, applied_timeline = $4
        WHERE node = $1 RETURNING 1
    ), moment AS MATERIALIZED (
        SELECT pg_current_snapshot() AS snapshot
    ), entry AS MATERIALIZED (
        SELECT revocation_log.xid, session_id, user_id FROM revocation_log, moment
        WHERE revocation_log.xid >= coalesce($2::text::xid8, pg_snapshot_xmin(snapshot))
        ORDER BY revocation_log.xid LIMIT $5
    ), begun AS (
        INSERT INTO database_timeline (id)
        SELECT ('x' || left(md5(gen_random_uuid()::text), 8))::bit(32)::integer
        WHERE NOT EXISTS (SELECT FROM database_timeline)
        ON CONFLICT DO NOTHING RETURNING id
    )
    SELECT EXISTS (SELECT FROM lease),
        coalesce((SELECT id FROM database_timeline), (SELECT id FROM begun)),
        pg_snapshot_xmin(snapshot)::text::bigint,
        snapshot::text,
        (SELECT xid::text::bigint FROM revocation_log_horizon),
        (SELECT coalesce(json_agg(json_build_array(xid::text, session_id, user_id)), '[]') FROM entry)
    FROM moment";

const MARK: &str = "SELECT pg_current_xact_id()::text::bigint";

const OTHERS: &str = "SELECT node, delta_ms, renewals FROM node_lease WHERE node <> $1";

/// What a node has merged on another timeline says nothing about this one, whose changes may have lower numbers.
const BEHIND: &str = "SELECT node, delta_ms, renewals FROM node_lease
    WHERE node <> $1 AND NOT coalesce(
        applied_timeline = (SELECT id FROM database_timeline) AND pg_visible_in_snapshot($2::text::xid8, applied), false)";

const PRUNE: &str = "WITH old AS MATERIALIZED (
        SELECT id FROM (SELECT id, recorded_at FROM revocation_log ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) AS oldest
        WHERE recorded_at < clock_timestamp() - interval '1 hour'
    ), gone AS (
        DELETE FROM revocation_log USING old WHERE revocation_log.id = old.id RETURNING xid
    ), horizon AS (
        UPDATE revocation_log_horizon SET xid = latest.xid
        FROM (SELECT xid FROM gone ORDER BY xid DESC LIMIT 1) AS latest WHERE latest.xid > revocation_log_horizon.xid
    )
    SELECT count(*) FROM gone";

/// [`RevocationFeed`] on PostgreSQL.
pub struct PostgresRevocationFeed {
    /// A connection of its own, so that requests cannot keep looks waiting. Its commits need not be on the disk.
    looks: Arc<PostgresDatabase>,
    database: Arc<PostgresDatabase>,
    node: Uuid,
}

impl PostgresRevocationFeed {
    /// The feed of this database for a node of this id; `looks` is for nothing else.
    pub fn new(database: Arc<PostgresDatabase>, looks: Arc<PostgresDatabase>, node: Uuid) -> Self {
        Self { looks, database, node }
    }
}

#[async_trait]
impl RevocationFeed for PostgresRevocationFeed {
    async fn register(&self, delta: Duration) -> Result<(), PortError> {
        let delta = i32::try_from(delta.as_millis()).unwrap_or(i32::MAX);
        self.database.execute(REGISTER, [self.node.into(), delta.into()]).await.map(drop)
    }

    async fn look(&self, from: Option<u64>, applied: Option<&str>) -> Result<Option<Look>, PortError> {
        let applied = applied.and_then(Moment::parse);
        let values = [
            self.node.into(),
            from.map(|from| from.to_string()).into(),
            applied.as_ref().map(|applied| applied.snapshot.clone()).into(),
            applied.map(|applied| applied.timeline).into(),
            (LOOK_LIMIT + 1).into(),
        ];
        let system = self.database.system();
        let looks = self.looks.query(LOOK, values, |row| look(row, system, from)).await?;
        Ok(looks.into_iter().next().flatten())
    }

    async fn mark(&self) -> Result<Mark, PortError> {
        let number = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let change = self.database.query(MARK, [], number).await?.first().map_or(0, |number| number.unsigned_abs());
        Ok(Mark { change, others: self.database.query(OTHERS, [self.node.into()], other_node).await? })
    }

    async fn behind(&self, change: u64) -> Result<Vec<OtherNode>, PortError> {
        self.database.query(BEHIND, [self.node.into(), change.to_string().into()], other_node).await
    }

    async fn remove(&self, node: &OtherNode) -> Result<(), PortError> {
        let renewals = i64::try_from(node.renewals).unwrap_or(i64::MAX);
        let sql = "DELETE FROM node_lease WHERE node = $1 AND renewals = $2";
        self.database.execute(sql, [node.node.into(), renewals.into()]).await.map(drop)
    }

    async fn leave(&self) -> Result<(), PortError> {
        self.database.execute("DELETE FROM node_lease WHERE node = $1", [self.node.into()]).await.map(drop)
    }

    async fn prune(&self, limit: u32) -> Result<u64, PortError> {
        let count = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let counts = self.database.query(PRUNE, [i64::from(limit).into()], count).await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }
}

fn look(row: &QueryResult, system: u64, from: Option<u64>) -> Result<Option<Look>, DbErr> {
    if !row.try_get_by_index::<bool>(0)? {
        return Ok(None);
    }
    let timeline: Option<i32> = row.try_get_by_index(1)?;
    let timeline = timeline.ok_or_else(|| DbErr::Custom("another node has just begun a timeline".into()))?;
    let (next, horizon): (i64, i64) = (row.try_get_by_index(2)?, row.try_get_by_index(4)?);
    let entries: Json = row.try_get_by_index(5)?;
    let entries = entries.as_array().cloned().unwrap_or_default();
    let complete = entries.len() as i64 <= LOOK_LIMIT;
    let ends = entries.iter().map(|entry| {
        logged_end(entry).ok_or_else(|| DbErr::Type(format!("an entry of revocation_log cannot be read: {entry}")))
    });
    let ends = ends.collect::<Result<Vec<_>, _>>()?;
    let page = FeedPage {
        incarnation: incarnation(system, timeline),
        complete,
        next: next_or_injected_bug(next.unsigned_abs(), from, &ends),
        ends,
        kept_from: horizon.unsigned_abs() + 1,
    };
    let moment = Moment { timeline, snapshot: row.try_get_by_index(3)? };
    Ok(Some(Look { page, moment: moment.to_string() }))
}

/// The moment of a look: which transactions it saw, of which timeline.
struct Moment {
    timeline: i32,
    snapshot: String,
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        let (timeline, snapshot) = text.split_once(' ')?;
        Some(Self { timeline: timeline.parse().ok()?, snapshot: snapshot.to_owned() })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.timeline, self.snapshot)
    }
}

/// Where the next look begins; by injected bugs, after the last entry, or never before where this one did.
fn next_or_injected_bug(next: u64, from: Option<u64>, ends: &[LoggedEnd]) -> u64 {
    let last = || ends.last().map(|end| end.change + 1).max(from);
    fail_point!("bug-cursor-after-the-last-entry", |_| last().unwrap_or(next));
    fail_point!(CURSOR_ACROSS_A_FAILOVER, |_| from.map_or(next, |from| next.max(from)));
    let _ = (last, CURSOR_ACROSS_A_FAILOVER);
    next
}

fn logged_end(entry: &Json) -> Option<LoggedEnd> {
    let id = |index: usize| entry[index].as_str().map(str::parse::<Uuid>).transpose().ok();
    let scope = match (id(1)?, id(2)?) {
        (Some(id), _) => Scope::Session(SessionId(id)),
        (None, Some(id)) => Scope::User(UserId(id)),
        (None, None) => Scope::Everybody,
    };
    Some(LoggedEnd { change: entry[0].as_str()?.parse().ok()?, scope })
}

fn other_node(row: &QueryResult) -> Result<OtherNode, DbErr> {
    let (delta, renewals): (i32, i64) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    let delta = Duration::from_millis(u64::from(delta.unsigned_abs()));
    Ok(OtherNode { node: row.try_get_by_index(0)?, delta, renewals: renewals.unsigned_abs() })
}
