//! Sessions: look-ups, lists, and every change as one statement.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::coherence::SessionRead;
use domain::ports::{
    Insertion, ListPosition, MAX_COUNTED, PortError, SearchPage, SessionEdit, SessionKey,
    SessionListing, SessionPage, SessionRepository, SessionSearch, TokenRotation,
};
use domain::{OnLimit, Revocation, Session, SessionId, SessionLimit, TokenHash, Touch, UserId};
use sea_orm::prelude::Json;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, QueryTrait, Value,
};
use uuid::Uuid;

use crate::database::error::port_error;
use crate::database::pool::PostgresDatabase;
use crate::sessions::batched_reads::BatchedReads;
use crate::sessions::row::{
    self as session_row, COLUMN_COUNT, COLUMNS, Column, Entity, Model, actor_text, placeholder,
};
use crate::sessions::search::search_sql;

/// [`SessionRepository`] on PostgreSQL.
pub struct PostgresSessionRepository {
    database: Arc<PostgresDatabase>,
    reads: BatchedReads,
}

impl PostgresSessionRepository {
    /// Creates the sessions of this database. To be called on a tokio runtime, which then reads for
    /// it.
    pub fn new(database: Arc<PostgresDatabase>) -> Self {
        Self { reads: BatchedReads::new(database.clone()), database }
    }

    /// Returns how many sessions the user has, and how many of them are live; each at most
    /// [`MAX_COUNTED`].
    async fn count(&self, listing: &SessionListing) -> Result<(u64, u64), PortError> {
        const SQL: &str = "SELECT
            (SELECT count(*) FROM (SELECT FROM sessions WHERE user_id = $1 LIMIT $3) AS own),
            (SELECT count(*) FROM (
                SELECT FROM sessions
                WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 LIMIT $3
            ) AS active)";
        let values =
            [listing.user_id.0.into(), listing.now.into(), MAX_COUNTED.cast_signed().into()];
        let counts = |row: &QueryResult| {
            let total: i64 = row.try_get_by_index(0)?;
            let active: i64 = row.try_get_by_index(1)?;
            Ok((total.unsigned_abs(), active.unsigned_abs()))
        };
        let counts = self.database.query(SQL, values, counts).await?.pop();
        counts.ok_or_else(|| PortError::unavailable("PostgreSQL returned no count"))
    }

    /// Runs a statement that revokes sessions: the revocation is `$1` to `$3`, what to revoke from
    /// `$4` on.
    async fn revoke_where(
        &self,
        sql: &str,
        revocation: &Revocation,
        which: Vec<Value>,
    ) -> Result<Vec<SessionKey>, PortError> {
        let mut values = vec![
            revocation.at.into(),
            revocation.reason.clone().into(),
            actor_text(revocation).into(),
        ];
        values.extend(which);
        self.database.write(sql, values, session_key).await
    }
}

#[async_trait]
impl SessionRepository for PostgresSessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError> {
        self.reads.find(session_id).await
    }

    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError> {
        let eviction = Revocation::eviction(session.created_at);
        let mut values = session_row::values(session).to_vec();
        let limit: [Value; LIMIT_VALUES] = [
            // A user has fewer than two thousand million sessions.
            limit.map(|limit| i32::try_from(limit.max.get()).unwrap_or(i32::MAX)).into(),
            limit.is_some_and(|limit| limit.on_limit == OnLimit::Deny).into(),
            eviction.reason.clone().into(),
            actor_text(&eviction).into(),
        ];
        values.extend(limit);
        let evicted = |row: &QueryResult| row.try_get_by_index::<Vec<Uuid>>(0);
        let evicted = self.database.write(&insert_sql(), values, evicted).await?.pop();
        let key = |id| SessionKey { id: SessionId(id), user_id: session.user_id };
        Ok(match evicted {
            Some(ids) => Insertion::Stored { evicted: ids.into_iter().map(key).collect() },
            None => Insertion::LimitReached,
        })
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let user_id = listing.user_id.0;
        let mut page = Entity::find().filter(Column::UserId.eq(user_id));
        if listing.active_only {
            page = page
                .filter(Column::RevokedAt.is_null())
                .filter(Expr::col("ends_at").gt(listing.now));
        }
        if let Some(position) = listing.after {
            let columns = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
            page = page.filter(
                columns.lt(Expr::tuple([position.created_at.into(), position.id.0.into()])),
            );
        }
        let newest_first = page.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
        let limited = newest_first.limit(u64::from(listing.limit)).build(DbBackend::Postgres);
        let rows = self.database.read(limited).await?;
        let counts = self.count(listing).await?;
        let session =
            |row: &QueryResult| Ok(Model::from_query_result(row, "").map_err(port_error)?.into());
        let sessions = rows.iter().map(session).collect::<Result<_, _>>()?;
        Ok(SessionPage { sessions, total_count: counts.0, active_count: counts.1 })
    }

    async fn search(&self, search: &SessionSearch) -> Result<SearchPage, PortError> {
        let (sql, values) = search_sql(search);
        let row = |row: &QueryResult| {
            let session = match row.try_get::<Option<Uuid>>("", "id")? {
                Some(_) => Some(Session::from(Model::from_query_result(row, "")?)),
                None => None,
            };
            let last_created_at: Option<DateTime<Utc>> = row.try_get("", "last_created_at")?;
            let last_id: Option<Uuid> = row.try_get("", "last_id")?;
            let last = last_created_at.zip(last_id);
            Ok((session, row.try_get::<i64>("", "examined_count")?, last))
        };
        let rows = self.database.query(&sql, values, row).await?;
        let is_bounded = |count: i64| count.unsigned_abs() >= u64::from(search.max_examined);
        let last = rows.first().filter(|(_, count, _)| is_bounded(*count));
        let examined_until = last.and_then(|(_, _, last)| *last);
        Ok(SearchPage {
            examined_until: examined_until
                .map(|(created_at, id)| ListPosition { created_at, id: SessionId(id) }),
            sessions: rows.into_iter().filter_map(|(session, ..)| session).collect(),
        })
    }

    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError> {
        const SQL: &str = "SELECT id FROM sessions WHERE user_id = $1 AND idempotency_key = $2";
        let id = |row: &QueryResult| row.try_get_by_index::<Uuid>(0);
        let ids = self.database.query(SQL, [user_id.0.into(), key.into()], id).await?;
        match ids.first() {
            Some(id) => Ok(self.find_by_id(SessionId(*id)).await?.map(session)),
            None => Ok(None),
        }
    }

    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError> {
        let sql = format!(
            "UPDATE sessions SET name = CASE WHEN $2 THEN $3 ELSE name END,
                metadata = CASE WHEN $4 THEN $5 ELSE metadata END
            WHERE id = $1 AND (
                NOT $6 OR (name IS NOT DISTINCT FROM $7 AND metadata IS NOT DISTINCT FROM $8)
            ) RETURNING {COLUMNS}"
        );
        let values = [
            session_id.0.into(),
            edit.name.is_some().into(),
            edit.name.clone().flatten().into(),
            edit.metadata.is_some().into(),
            edit.metadata.clone().flatten().map(Json::Object).into(),
            edit.only_if.is_some().into(),
            edit.only_if.as_ref().and_then(|fields| fields.name.clone()).into(),
            edit.only_if
                .as_ref()
                .and_then(|fields| fields.metadata.clone())
                .map(Json::Object)
                .into(),
        ];
        let edited = |row: &QueryResult| Model::from_query_result(row, "").map(Session::from);
        Ok(self.database.write(&sql, values, edited).await?.pop())
    }

    async fn rotate_token(
        &self,
        session_id: SessionId,
        rotation: &TokenRotation,
    ) -> Result<bool, PortError> {
        const SQL: &str = "UPDATE sessions SET token_hash = $2, token_reused_at = NULL,
                replaced_token_hash = token_hash,
                token_replaced_at = CASE WHEN token_hash IS NOT NULL THEN $3 END
            WHERE id = $1 AND revoked_at IS NULL AND ends_at > $3
                AND ($4::bytea IS NULL OR token_hash = $4)";
        let values = [
            session_id.0.into(),
            rotation.hash.0.to_vec().into(),
            rotation.at.into(),
            rotation.only_if.map(|hash| hash.0.to_vec()).into(),
        ];
        Ok(self.database.execute(SQL, values).await? > 0)
    }

    async fn mark_token_reused(
        &self,
        session_id: SessionId,
        hash: &TokenHash,
        at: DateTime<Utc>,
    ) -> Result<bool, PortError> {
        const SQL: &str = "UPDATE sessions SET token_reused_at = $3
            WHERE id = $1 AND replaced_token_hash = $2 AND token_reused_at IS NULL
                AND revoked_at IS NULL";
        let values = [session_id.0.into(), hash.0.to_vec().into(), at.into()];
        Ok(self.database.execute(SQL, values).await? > 0)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError> {
        // `Session::touch`, for many at once.
        const SQL: &str = "WITH touch AS MATERIALIZED (
                SELECT id, first_at, last_at, NULLIF(address, '')::inet AS address
                FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::text[])
                    AS _(id, first_at, last_at, address)
            ), locked AS MATERIALIZED (
                SELECT id FROM sessions JOIN touch USING (id)
                ORDER BY id FOR NO KEY UPDATE OF sessions
            )
            UPDATE sessions SET
                last_activity_at = GREATEST(last_activity_at, last_at),
                last_ip_address = CASE
                    WHEN last_at >= last_activity_at THEN coalesce(address, last_ip_address)
                    ELSE last_ip_address END,
                expires_at = CASE
                    WHEN 2 * (expires_at - last_at) < renewal * interval '1 microsecond'
                    THEN last_at + renewal * interval '1 microsecond' ELSE expires_at END
            FROM touch WHERE sessions.id = touch.id AND sessions.id IN (SELECT id FROM locked)
                AND revoked_at IS NULL AND ends_at > first_at";
        let address =
            |touch: &Touch| touch.ip_address.map(|address| address.to_string()).unwrap_or_default();
        let values = [
            touches.iter().map(|touch| touch.session_id.0).collect::<Vec<_>>().into(),
            touches.iter().map(|touch| touch.first_at).collect::<Vec<_>>().into(),
            touches.iter().map(|touch| touch.last_at).collect::<Vec<_>>().into(),
            touches.iter().map(address).collect::<Vec<_>>().into(),
        ];
        self.database.execute(SQL, values).await.map(drop)
    }

    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError> {
        if sessions.is_empty() {
            return Ok(0);
        }
        let values = sessions.iter().flat_map(session_row::values);
        let is_new = |row: &QueryResult| row.try_get_by_index::<bool>(0);
        let rows = self.database.write(&import_sql(sessions.len()), values, is_new).await?;
        Ok(rows.into_iter().filter(|is_new| *is_new).count() as u64)
    }

    async fn revoke(
        &self,
        session_ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        // Like every statement that locks several sessions, it does so by ascending id, which
        // prevents deadlocks.
        const SQL: &str = "WITH targets AS MATERIALIZED (
                SELECT id FROM sessions WHERE id = ANY($4) AND revoked_at IS NULL
                ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE sessions SET revoked_at = $1, revoked_reason = $2, revoked_by = $3
            FROM targets WHERE sessions.id = targets.id AND revoked_at IS NULL
            RETURNING sessions.id, user_id";
        let ids: Vec<Uuid> = session_ids.iter().map(|id| id.0).collect();
        self.revoke_where(SQL, revocation, vec![ids.into()]).await
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        // It writes to the log also if nothing matched: caches may hold what the table no longer
        // has.
        const SQL: &str = "WITH targets AS MATERIALIZED (
                SELECT id FROM sessions
                WHERE user_id = $4 AND id IS DISTINCT FROM $5 AND revoked_at IS NULL
                ORDER BY id LIMIT $6 FOR NO KEY UPDATE
            ), logged AS (
                INSERT INTO revocation_log (user_id) VALUES ($4)
            )
            UPDATE sessions SET revoked_at = $1, revoked_reason = $2, revoked_by = $3
            FROM targets WHERE sessions.id = targets.id AND revoked_at IS NULL
            RETURNING sessions.id, user_id";
        let which = vec![user_id.0.into(), except.map(|id| id.0).into(), i64::from(limit).into()];
        self.revoke_where(SQL, revocation, which).await
    }

    async fn revoke_all_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        // The first batch writes to the log also if nothing matched.
        const SQL: &str = "WITH targets AS MATERIALIZED (
                SELECT id FROM sessions WHERE id > $4 AND revoked_at IS NULL
                ORDER BY id LIMIT $5 FOR NO KEY UPDATE
            ), logged AS (
                INSERT INTO revocation_log (session_id, user_id)
                SELECT NULL, NULL WHERE $4 = '00000000-0000-0000-0000-000000000000'::uuid
            )
            UPDATE sessions SET revoked_at = $1, revoked_reason = $2, revoked_by = $3
            FROM targets WHERE sessions.id = targets.id AND revoked_at IS NULL
            RETURNING sessions.id, user_id";
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let mut revoked =
            self.revoke_where(SQL, revocation, vec![after.into(), i64::from(limit).into()]).await?;
        revoked.sort();
        Ok(revoked)
    }
}

/// The values of [`insert_sql`] that come after the session's: limit, whether it denies, reason and
/// actor of an eviction.
const LIMIT_VALUES: usize = 4;

/// Enforces the session limit of the user (`max_sessions`; `sessiond_enforce_session_limit_v1` in
/// the migrations), and inserts one row unless the limit denies it. Returns the ids of the sessions
/// that it evicted.
fn insert_sql() -> String {
    let placeholders = |range: RangeInclusive<usize>| {
        range.map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
    };
    let values = placeholders(1..=COLUMN_COUNT);
    let user_id = placeholder("user_id");
    let created_at = placeholder("created_at");
    let limit = placeholders(COLUMN_COUNT + 1..=COLUMN_COUNT + LIMIT_VALUES);
    format!(
        "WITH room AS MATERIALIZED (
            SELECT sessiond_enforce_session_limit_v1({user_id}, {created_at}, {limit}) AS evicted
        )
        INSERT INTO sessions ({COLUMNS}) SELECT {values} FROM room WHERE evicted IS NOT NULL
        RETURNING (SELECT evicted FROM room)"
    )
}

/// Inserts many rows; of one that is here already, only a revocation that is not. Returns for each
/// row that it wrote whether it is new.
fn import_sql(rows: usize) -> String {
    let row = |n: usize| {
        let values: Vec<_> =
            (1..=COLUMN_COUNT).map(|column| format!("${}", n * COLUMN_COUNT + column)).collect();
        format!("({})", values.join(", "))
    };
    let rows = (0..rows).map(row).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO sessions ({COLUMNS}) VALUES {rows}
        ON CONFLICT (id) DO UPDATE SET revoked_at = EXCLUDED.revoked_at,
            revoked_reason = EXCLUDED.revoked_reason, revoked_by = EXCLUDED.revoked_by
        WHERE sessions.revoked_at IS NULL AND EXCLUDED.revoked_at IS NOT NULL
        RETURNING xmax = 0"
    )
}

fn session(read: SessionRead) -> Session {
    Arc::unwrap_or_clone(read.session)
}

/// Reads a row of `RETURNING id, user_id`.
fn session_key(row: &QueryResult) -> Result<SessionKey, DbErr> {
    Ok(SessionKey {
        id: SessionId(row.try_get_by_index(0)?),
        user_id: UserId(row.try_get_by_index(1)?),
    })
}
