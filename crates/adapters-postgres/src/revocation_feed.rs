//! The revocation log, and the leases of the nodes that poll it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batching::Batcher;
use domain::coherence::{Incarnation, LogPage, RevocationEntry, Scope, Snapshot};
use domain::ports::{LogPosition, Peer, Peers, Poll, PortError, RevocationFeed};
use domain::{SessionId, UserId};
use fail::fail_point;
use sea_orm::prelude::Json;
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::database::connection::OpenError;
use crate::database::pool::PostgresDatabase;

/// Entries of one page, at most.
const PAGE_LIMIT: i64 = 20_000;
/// How long the server waits for peers, at most: less than the time-out of a statement.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// How long a commit wait waits for others while one is in flight. Peers poll every 100 ms: with as
/// many calls as can be in flight, there is one to begin at any time of that.
const WAIT_LINGER: Duration = Duration::from_millis(25);

/// Entries of an earlier life that one statement deletes, well within its time-out. Polls go on
/// until all are gone.
const MAX_DELETIONS: i32 = 20_000;

/// The present life, where its row is valid: see `migrations/0003_revocation_log.sql`. No row on
/// a standby, which cannot read an unlogged table: there the statement fails.
const PRESENT_LIFE: &str = "SELECT system, database, life, retained_from FROM database_incarnation
    WHERE system = (SELECT system_identifier FROM pg_control_system())
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND sessions_table = to_regclass('sessions') AND server_started = pg_postmaster_start_time()
        AND xmin = written_by::xid";

/// Returns the poll. It is one statement, so one snapshot: the lease is renewed and there, and the
/// log is read, in the same snapshot. It returns what the snapshot of the poll before did not see:
/// what came after it, and what was in progress. So it reads no more than that, whichever
/// transaction is open elsewhere, and however long the log above it is.
///
/// `$1` the node, `$2` whether this is a heartbeat, `$3` and `$4` what the node has merged and in
/// which life, `$5` the snapshot since which to read, `$6` and `$7` the entry after which to go on,
/// `$8` how many.
fn poll_sql() -> String {
    format!(
        "WITH present AS MATERIALIZED (
            SELECT pg_current_snapshot() AS snapshot
        ), life AS MATERIALIZED (
            {PRESENT_LIFE}
        ), lease AS (
            UPDATE node_lease
            SET heartbeats = heartbeats + 1, applied = $3::pg_snapshot, applied_life = $4
            WHERE node = $1 AND $2 RETURNING 1
        ), entry AS MATERIALIZED (
            SELECT * FROM (
                SELECT xid, id, session_id, user_id FROM revocation_log
                WHERE xid >= pg_snapshot_xmax($5::pg_snapshot)
                UNION ALL
                SELECT xid, id, session_id, user_id FROM revocation_log
                WHERE xid IN (SELECT pg_snapshot_xip($5::pg_snapshot))
            ) AS unseen
            WHERE (xid, id) > ($6::text::xid8, $7) ORDER BY xid, id LIMIT $8
        )
        SELECT CASE WHEN $2 THEN EXISTS (SELECT FROM lease)
                ELSE EXISTS (SELECT FROM node_lease WHERE node = $1) END,
            system, database, life, retained_from::text::bigint, snapshot::text, (
                SELECT coalesce(
                    json_agg(json_build_array(xid::text, id, session_id, user_id)), '[]'
                ) FROM entry
            )
        FROM present LEFT JOIN life ON true"
    )
}

/// Returns the query for where a node begins that has read nothing: no cached session is older than
/// twelve minutes, so older entries are left out, but none that a read which is still servable may
/// not have seen.
fn start_sql() -> String {
    format!(
        "WITH life AS MATERIALIZED (
            {PRESENT_LIFE}
        ), old AS MATERIALIZED (
            SELECT xid FROM revocation_log
            WHERE recorded_at < clock_timestamp() - interval '13 minutes'
            ORDER BY xid DESC LIMIT 1
        )
        SELECT greatest(retained_from::text::bigint, (
                SELECT least(
                    xid::text::bigint + 1, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                ) FROM old
            )), life
        FROM life"
    )
}

/// [`RevocationFeed`] on PostgreSQL.
pub struct PostgresRevocationFeed {
    database: Arc<PostgresDatabase>,
    /// A connection of its own, so that requests cannot keep polls waiting. Its commits need not be
    /// on the disk.
    polls: PostgresDatabase,
    /// Connections for commit waits, which take their time.
    wait_connections: Arc<PostgresDatabase>,
    /// Commit waits, batched: one statement serves all that wait.
    waits: Batcher<i32, Result<Peers, Arc<PortError>>>,
    node: Uuid,
}

impl PostgresRevocationFeed {
    /// Creates the feed of this database, which is at `url`, for a node of this id. Opens one
    /// connection for polls, and for commit waits as many as there are calls in flight, at most
    /// four.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Panics
    /// Outside a tokio runtime, whose task batches.
    pub async fn open(
        database: Arc<PostgresDatabase>,
        url: &str,
        node: Uuid,
    ) -> Result<Self, OpenError> {
        let polls = PostgresDatabase::open_beside(url, 1).await?;
        let wait_connections =
            Arc::new(PostgresDatabase::open_beside(url, batching::MAX_IN_FLIGHT as u32).await?);
        let connections = wait_connections.clone();
        let waits = Batcher::with_linger(WAIT_LINGER, move |milliseconds: Vec<i32>| {
            let connections = connections.clone();
            async move {
                // The longest wait is long enough for all.
                let longest = milliseconds.iter().copied().max().unwrap_or_default();
                let peers = await_peers(&connections, node, longest).await.map_err(Arc::new);
                vec![peers; milliseconds.len()]
            }
        });
        Ok(Self { database, polls, wait_connections, waits, node })
    }

    /// Connects with what this URL says from now on, such as another password. Open connections
    /// stay.
    ///
    /// # Errors
    /// [`OpenError::Url`] if it is none.
    pub fn set_url(&self, url: &str) -> Result<(), OpenError> {
        self.polls.set_url(url)?;
        self.wait_connections.set_url(url)
    }

    /// Closes its own connections.
    pub async fn close(&self) {
        self.polls.close().await;
        self.wait_connections.close().await;
    }

    /// Polls from this position; `None`: the position means nothing any more, or there is no life
    /// yet.
    async fn poll_from(&self, from: &Position, is_heartbeat: bool) -> Result<Polled, PortError> {
        let row = from.row.as_ref();
        let values = [
            self.node.into(),
            is_heartbeat.into(),
            from.merged.as_ref().map(|merged| merged.to_string()).into(),
            from.merged.as_ref().map(|_| from.life).into(),
            from.since().to_string().into(),
            row.map_or_else(|| "0".to_owned(), |row| row.after.0.to_string()).into(),
            row.map_or(0, |row| row.after.1).into(),
            (PAGE_LIMIT + 1).into(),
        ];
        let polled = self.polls.write(&poll_sql(), values, polled).await?;
        polled
            .into_iter()
            .next()
            .ok_or_else(|| PortError::corrupt("a poll of revocation_log returned no row"))
    }

    /// Returns where to begin, in a life that begins now if there is none.
    async fn start(&self) -> Result<Position, PortError> {
        for _ in 0..2 {
            let start = |row: &QueryResult| {
                let (retained_from, life): (i64, i64) =
                    (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
                Ok(Position { life, merged: None, start: Some(retained_from), row: None })
            };
            if let Some(position) = self.polls.query(&start_sql(), [], start).await?.pop() {
                return Ok(position);
            }
            let has_begun = |row: &QueryResult| row.try_get_by_index::<bool>(0);
            let begin = "SELECT sessiond_begin_incarnation_v1($1)";
            if self.polls.write(begin, [MAX_DELETIONS.into()], has_begun).await?.first()
                != Some(&true)
            {
                return Err(PortError::unavailable(
                    "the log of an earlier life of the database is being deleted",
                ));
            }
        }
        Err(PortError::unavailable("the incarnation that began has ended again"))
    }
}

#[async_trait]
impl RevocationFeed for PostgresRevocationFeed {
    async fn register(&self, max_staleness: Duration) -> Result<(), PortError> {
        const SQL: &str = "INSERT INTO node_lease (node, max_staleness_ms) VALUES ($1, $2)
            ON CONFLICT (node) DO UPDATE SET max_staleness_ms = EXCLUDED.max_staleness_ms,
                heartbeats = node_lease.heartbeats + 1, applied = NULL, applied_life = NULL";
        let max_staleness = i32::try_from(max_staleness.as_millis()).unwrap_or(i32::MAX);
        self.database.execute(SQL, [self.node.into(), max_staleness.into()]).await.map(drop)
    }

    async fn poll(
        &self,
        position: Option<&LogPosition>,
        is_heartbeat: bool,
    ) -> Result<Option<Poll>, PortError> {
        if let Some(position) = position.and_then(Position::parse) {
            let polled = self.poll_from(&position, is_heartbeat).await?;
            if !polled.is_registered {
                return Ok(None);
            }
            if polled.goes_on_from(&position) {
                return polled.into_poll(&position, None).map(Some);
            }
        }
        let position = self.start().await?;
        let polled = self.poll_from(&position, is_heartbeat).await?;
        if !polled.is_registered {
            return Ok(None);
        }
        if !polled.goes_on_from(&position) {
            return Err(PortError::unavailable("another life of the database has just begun"));
        }
        let horizon = Snapshot::below(position.start.unwrap_or_default().unsigned_abs());
        polled.into_poll(&position, Some(horizon)).map(Some)
    }

    async fn peers(&self, wait: Duration) -> Result<Peers, PortError> {
        let milliseconds = i32::try_from(wait.min(MAX_WAIT).as_millis()).unwrap_or_default();
        if milliseconds == 0 {
            return await_peers(&self.database, self.node, 0).await;
        }
        let peers = self.waits.load(milliseconds).await.map_err(PortError::unavailable)?;
        peers.map_err(PortError::shared)
    }

    async fn remove_peer(&self, peer: &Peer) -> Result<(), PortError> {
        let heartbeats = i64::try_from(peer.heartbeats).unwrap_or(i64::MAX);
        let sql = "DELETE FROM node_lease WHERE node = $1 AND heartbeats = $2";
        self.database.execute(sql, [peer.node.into(), heartbeats.into()]).await.map(drop)
    }

    async fn leave(&self) -> Result<(), PortError> {
        self.database
            .execute("DELETE FROM node_lease WHERE node = $1", [self.node.into()])
            .await
            .map(drop)
    }

    async fn prune(&self, limit: u32) -> Result<u64, PortError> {
        // Deletes what is old and what every read has seen: an entry whose transaction some
        // snapshot may not see yet has to stay. A trigger notes how far it went.
        const PRUNE: &str = "DELETE FROM revocation_log WHERE id IN (
            SELECT id FROM (SELECT id, xid, recorded_at FROM revocation_log ORDER BY id LIMIT $1
                FOR UPDATE
            SKIP LOCKED) AS oldest
            WHERE recorded_at < clock_timestamp() - interval '1 hour' AND xid <
            pg_snapshot_xmin(pg_current_snapshot()))";
        // Deletes entries of another server, which a data-only restore brought along: their numbers
        // are still to come here. That ends the incarnation, and with it all of them.
        const SQL: &str = "DELETE FROM revocation_log WHERE id IN (
            SELECT id FROM revocation_log
                WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $1)";
        self.database.execute(SQL, [i64::from(limit).into()]).await?;
        self.database.execute(PRUNE, [i64::from(limit).into()]).await
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), PortError> {
        let sql = "DELETE FROM database_incarnation WHERE life = $1";
        self.database.execute(sql, [incarnation.life.cast_signed().into()]).await.map(drop)
    }
}

async fn await_peers(
    waits: &PostgresDatabase,
    node: Uuid,
    milliseconds: i32,
) -> Result<Peers, PortError> {
    const SQL: &str = "SELECT
            system, database, life, node, max_staleness_ms, heartbeats, is_caught_up
        FROM sessiond_await_peers_v1($1, $2)";
    let row = |row: &QueryResult| Ok((incarnation(row, 0)?, peer(row)?));
    let rows = waits.query(SQL, [node.into(), milliseconds.into()], row).await?;
    let incarnation = rows.first().and_then(|(incarnation, _)| *incarnation);
    Ok(Peers { incarnation, peers: rows.into_iter().filter_map(|(_, peer)| peer).collect() })
}

fn peer(row: &QueryResult) -> Result<Option<Peer>, DbErr> {
    let Some(node) = row.try_get_by_index::<Option<Uuid>>(3)? else { return Ok(None) };
    let (max_staleness, heartbeats): (i32, i64) =
        (row.try_get_by_index(4)?, row.try_get_by_index(5)?);
    Ok(Some(Peer {
        node,
        max_staleness: Duration::from_millis(max_staleness.unsigned_abs().into()),
        heartbeats: heartbeats.unsigned_abs(),
        is_caught_up: row.try_get_by_index(6)?,
    }))
}

/// Reads system, database and life from three columns; `None` where there is no life.
pub(crate) fn incarnation(row: &QueryResult, first: usize) -> Result<Option<Incarnation>, DbErr> {
    let Some(life) = row.try_get_by_index::<Option<i64>>(first + 2)? else { return Ok(None) };
    let (system, database): (i64, u32) =
        (row.try_get_by_index(first)?, row.try_get_by_index(first + 1)?);
    fail_point!("bug-copies-are-taken-for-the-original", |_| Ok(Some(Incarnation {
        system: system.cast_unsigned(),
        database: 0,
        life: 0
    })));
    Ok(Some(Incarnation { system: system.cast_unsigned(), database, life: life.cast_unsigned() }))
}

/// What a poll returned.
struct Polled {
    is_registered: bool,
    incarnation: Option<Incarnation>,
    life: Option<i64>,
    retained_from: u64,
    snapshot: PgSnapshot,
    /// With their keys in the log, in that order.
    entries: Vec<(RevocationEntry, i64)>,
}

fn polled(row: &QueryResult) -> Result<Polled, DbErr> {
    let (retained_from, snapshot): (Option<i64>, String) =
        (row.try_get_by_index(4)?, row.try_get_by_index(5)?);
    let entries: Json = row.try_get_by_index(6)?;
    let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|values| {
        entry(values).ok_or_else(|| {
            DbErr::Type(format!("an entry of revocation_log cannot be read: {values}"))
        })
    });
    Ok(Polled {
        is_registered: row.try_get_by_index(0)?,
        incarnation: incarnation(row, 1)?,
        life: row.try_get_by_index(3)?,
        retained_from: retained_from.unwrap_or_default().unsigned_abs(),
        snapshot: PgSnapshot::parse(&snapshot)
            .ok_or_else(|| DbErr::Type(format!("not a snapshot: {snapshot}")))?,
        entries: entries.collect::<Result<_, _>>()?,
    })
}

fn entry(values: &Json) -> Option<(RevocationEntry, i64)> {
    let id = |index: usize| values[index].as_str().map(str::parse::<Uuid>).transpose().ok();
    let scope = match (id(2)?, id(3)?) {
        (Some(id), _) => Scope::Session(SessionId(id)),
        (None, Some(id)) => Scope::User(UserId(id)),
        (None, None) => Scope::AllUsers,
    };
    Some((
        RevocationEntry { sequence: values[0].as_str()?.parse().ok()?, scope },
        values[1].as_i64()?,
    ))
}

impl Polled {
    /// Returns whether nothing is missing between this position and what was returned.
    fn goes_on_from(&self, position: &Position) -> bool {
        let is_same_life = self.life == Some(position.life);
        fail_point!("bug-pruned-unnoticed", |_| is_same_life);
        is_same_life && self.retained_from <= position.since().exact.xmin()
    }

    fn into_poll(self, from: &Position, starts_over: Option<Snapshot>) -> Result<Poll, PortError> {
        let Self { incarnation, snapshot, mut entries, .. } = self;
        let incarnation =
            incarnation.ok_or_else(|| PortError::unavailable("the database has no life yet"))?;
        let is_last = entries.len() as i64 <= PAGE_LIMIT;
        entries.truncate(PAGE_LIMIT as usize);
        let row_snapshot = from.row.as_ref().map_or(snapshot, |row| row.snapshot.clone());
        let after = entries.last().map(|(entry, id)| (entry.sequence, *id));
        let position = match after.filter(|_| !is_last) {
            Some(after) => Position {
                row: Some(Row { snapshot: row_snapshot.clone(), after }),
                ..from.clone()
            },
            None => Position {
                life: from.life,
                merged: Some(merged_or_injected_bug(row_snapshot.clone(), &entries)),
                start: None,
                row: None,
            },
        };
        let page = LogPage {
            incarnation,
            entries: entries.into_iter().map(|(entry, _)| entry).collect(),
            snapshot: row_snapshot.exact,
            is_last,
            starts_over,
        };
        Ok(Poll { page, position: LogPosition(position.to_string()) })
    }
}

/// Returns what the next poll goes on from; by an injected bug, the last entry.
fn merged_or_injected_bug(snapshot: PgSnapshot, entries: &[(RevocationEntry, i64)]) -> PgSnapshot {
    let after_last = || entries.last().map(|(last, _)| PgSnapshot::below(last.sequence + 1));
    fail_point!("bug-cursor-after-the-last-entry", |_| after_last().unwrap_or(snapshot.clone()));
    let _ = after_last;
    snapshot
}

/// A snapshot with the server's own text, which names every transaction in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PgSnapshot {
    text: String,
    exact: Snapshot,
}

impl PgSnapshot {
    fn parse(text: &str) -> Option<Self> {
        Some(Self { exact: Snapshot::parse(text)?, text: text.to_owned() })
    }

    fn below(xmax: u64) -> Self {
        Self { text: format!("{xmax}:{xmax}:"), exact: Snapshot::below(xmax) }
    }
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where a node is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    life: i64,
    /// The snapshot up to which the node has merged everything; `None` before its first row of
    /// pages is complete.
    merged: Option<PgSnapshot>,
    /// Then, the number from which it began to read.
    start: Option<i64>,
    /// Where it is in a row of pages.
    row: Option<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// The snapshot of the first page.
    snapshot: PgSnapshot,
    /// The last entry of the last page: its transaction and its key.
    after: (u64, i64),
}

impl Position {
    /// Returns the snapshot since which to read.
    fn since(&self) -> PgSnapshot {
        let from_start = || PgSnapshot::below(self.start.unwrap_or_default().unsigned_abs());
        self.merged.clone().unwrap_or_else(from_start)
    }

    /// Reads what `Display` writes.
    fn parse(position: &LogPosition) -> Option<Self> {
        fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
            if text == "-" { Some(None) } else { parse(text).map(Some) }
        }
        let parts: Vec<&str> = position.0.split(' ').collect();
        let &[life, merged, start, snapshot, xid, id] = parts.as_slice() else { return None };
        let row = |text: &str| {
            let after = (xid.parse().ok()?, id.parse().ok()?);
            Some(Row { snapshot: PgSnapshot::parse(text)?, after })
        };
        Some(Self {
            life: life.parse().ok()?,
            merged: optional(merged, PgSnapshot::parse)?,
            start: optional(start, |text| text.parse().ok())?,
            row: optional(snapshot, row)?,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let merged = text(self.merged.as_ref().map(ToString::to_string));
        let start = text(self.start.map(|start| start.to_string()));
        let snapshot = text(self.row.as_ref().map(|row| row.snapshot.to_string()));
        let (xid, id) = self.row.as_ref().map_or((0, 0), |row| row.after);
        write!(f, "{} {merged} {start} {snapshot} {xid} {id}", self.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_as_it_was_written_and_nothing_else_is() {
        let snapshot = PgSnapshot::parse("10:20:10,12").unwrap();
        let row = Some(Row { snapshot: snapshot.clone(), after: (15, 7) });
        for position in [
            Position { life: -5, merged: None, start: Some(3), row: row.clone() },
            Position { life: 5, merged: Some(snapshot), start: None, row },
            Position { life: 0, merged: Some(PgSnapshot::below(7)), start: None, row: None },
        ] {
            assert_eq!(Position::parse(&LogPosition(position.to_string())), Some(position));
        }
        for text in
            ["", "of another store", "1 - - - 0", "1 x - - 0 0", "x - - - 0 0", "1 - - 1:2: 0 0 0"]
        {
            assert_eq!(Position::parse(&LogPosition(text.to_owned())), None, "{text}");
        }
    }
}
