//! Sessions: look-ups, lists and changes.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::coherence::{ReadVersion, SessionRead, Snapshot};
use domain::ports::{
    Insertion, ListPosition, MAX_COUNTED, PortError, SearchPage, SessionEdit, SessionKey,
    SessionListing, SessionPage, SessionRepository, SessionSearch, TokenRotation,
};
use domain::{
    OnLimit, Revocation, Session, SessionId, SessionLimit, TokenHash, Touch, UserId, metadata_text,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult,
    QueryFilter, QueryOrder, QueryResult, QuerySelect, Value,
};
use uuid::Uuid;

use crate::database::pool::{NEXT_SEQUENCE, SqliteDatabase, bounded, statement};
use crate::sessions::row::{COLUMN_COUNT, COLUMNS, Column, Entity, Model, actor_text, values};
use crate::sessions::search::search_sql;

/// Rows or ids of one statement. SQLite has no arrays, and bounds the parameters of a statement.
const CHUNK: usize = 500;

/// Counts to `?3` at most.
const COUNT: &str = "SELECT
    (SELECT count(*) FROM (SELECT 1 FROM sessions WHERE user_id = ?1 LIMIT ?3)),
    (SELECT count(*) FROM (
        SELECT 1 FROM sessions WHERE user_id = ?1 AND revoked_at IS NULL AND ends_at > ?2 LIMIT ?3
    ))";

const REVOKE: &str = "UPDATE sessions SET revoked_at = ?, revoked_reason = ?, revoked_by = ?
    WHERE revoked_at IS NULL";

/// [`SessionRepository`] on one SQLite file.
pub struct SqliteSessionRepository {
    database: Arc<SqliteDatabase>,
}

impl SqliteSessionRepository {
    /// Creates the sessions of this file.
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }

    /// Runs a statement that revokes sessions: [`REVOKE`], and which ones.
    async fn revoke_where(
        &self,
        which: &str,
        revocation: &Revocation,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<SessionKey>, PortError> {
        let values = revocation_values(revocation).into_iter().chain(values);
        self.database
            .write(&format!("{REVOKE} AND {which} RETURNING id, user_id"), values, session_key)
            .await
    }
}

#[async_trait]
impl SessionRepository for SqliteSessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError> {
        // The row, and what the read has seen, of one snapshot.
        let sql = format!(
            "SELECT {COLUMNS}, {NEXT_SEQUENCE} AS next_sequence FROM sessions WHERE id = ?"
        );
        let row = |row: &QueryResult| {
            Ok((Model::from_query_result(row, "")?, row.try_get::<i64>("", "next_sequence")?))
        };
        let Some((row, next_sequence)) =
            self.database.query(&sql, [session_id.0.into()], row).await?.pop()
        else {
            return Ok(None);
        };
        let session = Arc::new(Session::try_from(row)?);
        let incarnation = self.database.incarnation();
        let version =
            ReadVersion { incarnation, snapshot: Snapshot::below(next_sequence.unsigned_abs()) };
        Ok(Some(SessionRead { session, version: Some(version) }))
    }

    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError> {
        let session = session.clone();
        self.database
            .transaction(move |transaction| {
                Box::pin(async move { insert(transaction, &session, limit).await })
            })
            .await
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let user_id = listing.user_id.0;
        let now = listing.now.timestamp_micros();
        let mut page = Entity::find().filter(Column::UserId.eq(user_id));
        if listing.active_only {
            page = page.filter(Column::RevokedAt.is_null()).filter(Expr::col("ends_at").gt(now));
        }
        if let Some(position) = listing.after {
            let columns = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
            let last = [position.created_at.timestamp_micros().into(), position.id.0.into()];
            page = page.filter(columns.lt(Expr::tuple(last)));
        }
        let newest_first = page.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
        let limited = newest_first.limit(u64::from(listing.limit));
        let readers = self.database.readers();
        let count =
            statement(COUNT, [user_id.into(), now.into(), MAX_COUNTED.cast_signed().into()]);
        let (rows, counts) = bounded(async {
            let rows = limited.all(readers).await?;
            Ok((rows, counts(readers.query_one_raw(count).await?)?))
        })
        .await?;
        let sessions = rows.into_iter().map(Session::try_from).collect::<Result<_, _>>()?;
        Ok(SessionPage { sessions, total_count: counts.0, active_count: counts.1 })
    }

    async fn search(&self, search: &SessionSearch) -> Result<SearchPage, PortError> {
        let (sql, values) = search_sql(search);
        let row = |row: &QueryResult| {
            let session = match row.try_get::<Option<Uuid>>("", "id")? {
                Some(_) => Some(Model::from_query_result(row, "")?),
                None => None,
            };
            let last_created_at: Option<i64> = row.try_get("", "last_created_at")?;
            let last_id: Option<Uuid> = row.try_get("", "last_id")?;
            let last = last_created_at.zip(last_id);
            Ok((session, row.try_get::<i64>("", "examined_count")?, last))
        };
        let rows = self.database.query(&sql, values, row).await?;
        let is_bounded = |count: i64| count.unsigned_abs() >= u64::from(search.max_examined);
        let last = rows.first().filter(|(_, count, _)| is_bounded(*count));
        let examined_until = last.and_then(|(_, _, last)| *last).and_then(|(created_at, id)| {
            let created_at = DateTime::from_timestamp_micros(created_at)?;
            Some(ListPosition { created_at, id: SessionId(id) })
        });
        let sessions = rows.into_iter().filter_map(|(session, ..)| session);
        Ok(SearchPage {
            examined_until,
            sessions: sessions.map(Session::try_from).collect::<Result<_, _>>()?,
        })
    }

    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError> {
        const SQL: &str =
            "SELECT id, user_id FROM sessions WHERE user_id = ? AND idempotency_key = ?";
        let found = self.database.query(SQL, [user_id.0.into(), key.into()], session_key).await?;
        match found.first() {
            Some(key) => Ok(self.find_by_id(key.id).await?.map(session)),
            None => Ok(None),
        }
    }

    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError> {
        let sql = format!(
            "UPDATE sessions SET name = CASE WHEN ? THEN ? ELSE name END,
                metadata = CASE WHEN ? THEN ? ELSE metadata END
            WHERE id = ? AND (NOT ? OR (name IS ? AND metadata IS ?)) RETURNING {COLUMNS}"
        );
        let values = [
            edit.name.is_some().into(),
            edit.name.clone().flatten().into(),
            edit.metadata.is_some().into(),
            edit.metadata.clone().flatten().as_ref().map(metadata_text).into(),
            session_id.0.into(),
            edit.only_if.is_some().into(),
            edit.only_if.as_ref().and_then(|fields| fields.name.clone()).into(),
            edit.only_if
                .as_ref()
                .and_then(|fields| fields.metadata.as_ref())
                .map(metadata_text)
                .into(),
        ];
        let edited = |row: &QueryResult| Model::from_query_result(row, "");
        self.database.write(&sql, values, edited).await?.pop().map(Session::try_from).transpose()
    }

    async fn rotate_token(
        &self,
        session_id: SessionId,
        rotation: &TokenRotation,
    ) -> Result<bool, PortError> {
        const SQL: &str = "UPDATE sessions SET token_hash = ?2, token_reused_at = NULL,
                replaced_token_hash = token_hash,
                token_replaced_at = CASE WHEN token_hash IS NOT NULL THEN ?3 END
            WHERE id = ?1 AND revoked_at IS NULL AND ends_at > ?3
                AND (?4 IS NULL OR token_hash = ?4)";
        let values = [
            session_id.0.into(),
            rotation.hash.0.to_vec().into(),
            rotation.at.timestamp_micros().into(),
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
        const SQL: &str = "UPDATE sessions SET token_reused_at = ?3
            WHERE id = ?1 AND replaced_token_hash = ?2 AND token_reused_at IS NULL
                AND revoked_at IS NULL";
        let values = [session_id.0.into(), hash.0.to_vec().into(), at.timestamp_micros().into()];
        Ok(self.database.execute(SQL, values).await? > 0)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError> {
        // `Session::touch`, for a JSON array of `[id, first_at, last_at, address]`.
        const SQL: &str = "UPDATE sessions SET
                last_activity_at = max(last_activity_at, last_at),
                last_ip_address = CASE
                    WHEN last_at >= last_activity_at THEN coalesce(address, last_ip_address)
                    ELSE last_ip_address END,
                expires_at = CASE
                    WHEN 2 * (expires_at - last_at) < renewal THEN last_at + renewal
                    ELSE expires_at END
            FROM (
                SELECT unhex(value ->> 0) AS touched, value ->> 1 AS first_at,
                    value ->> 2 AS last_at,
                    value ->> 3 AS address
                FROM json_each(?)
            )
            WHERE id = touched AND revoked_at IS NULL AND ends_at > first_at";
        // Digits and an address need no escaping.
        let item = |touch: &Touch| {
            let id = touch.session_id.0.simple();
            let first = touch.first_at.timestamp_micros();
            let address =
                touch.ip_address.map_or("null".to_owned(), |address| format!("\"{address}\""));
            format!("[\"{id}\",{first},{},{address}]", touch.last_at.timestamp_micros())
        };
        let items = touches.iter().map(item).collect::<Vec<_>>().join(",");
        self.database.execute(SQL, [format!("[{items}]").into()]).await.map(drop)
    }

    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError> {
        let sessions = sessions.to_vec();
        self.database
            .transaction(move |transaction| {
                Box::pin(async move { import(transaction, &sessions).await })
            })
            .await
    }

    async fn revoke(
        &self,
        session_ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let mut all_revoked = Vec::new();
        for ids in session_ids.chunks(CHUNK) {
            let which = format!("id IN ({})", placeholders(ids.len()));
            let ids: Vec<Value> = ids.iter().map(|id| id.0.into()).collect();
            all_revoked.extend(self.revoke_where(&which, revocation, ids).await?);
        }
        Ok(all_revoked)
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let which = "id IN (SELECT id FROM sessions WHERE user_id = ? AND id IS NOT ? AND \
            revoked_at IS NULL ORDER BY id LIMIT ?)";
        // First: if only this is done, nothing is revoked, as the error then says.
        self.database
            .execute("INSERT INTO revocation_log (user_id) VALUES (?)", [user_id.0.into()])
            .await?;
        let values = [user_id.0.into(), except.map(|id| id.0).into(), limit.into()];
        self.revoke_where(which, revocation, values).await
    }

    async fn revoke_all_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let which = "id IN (SELECT id FROM sessions WHERE id > coalesce(?, x'') AND revoked_at IS \
            NULL ORDER BY id LIMIT ?)";
        // First, as in `revoke_all_of_user`.
        if after.is_none() {
            self.database.execute("INSERT INTO revocation_log DEFAULT VALUES", []).await?;
        }
        let mut revoked = self
            .revoke_where(which, revocation, [after.map(|id| id.0).into(), limit.into()])
            .await?;
        revoked.sort();
        Ok(revoked)
    }
}

/// Inserts a session, after enforcing the session limit of its user.
async fn insert(
    transaction: &DatabaseTransaction,
    session: &Session,
    limit: Option<SessionLimit>,
) -> Result<Insertion, DbErr> {
    const SQL: &str = "SELECT id, user_id FROM sessions
        WHERE user_id = ? AND revoked_at IS NULL AND ends_at > ? ORDER BY created_at, id";
    let mut evicted = Vec::new();
    if let Some(limit) = limit {
        let user_id = session.user_id.0;
        let now = session.created_at.timestamp_micros();
        let live = statement(SQL, [user_id.into(), now.into()]);
        let live = transaction
            .query_all_raw(live)
            .await?
            .iter()
            .map(session_key)
            .collect::<Result<Vec<_>, _>>()?;
        let too_many = (live.len() + 1).saturating_sub(limit.max.get() as usize);
        if too_many > 0 && limit.on_limit == OnLimit::Deny {
            return Ok(Insertion::LimitReached);
        }
        evicted.extend_from_slice(&live[..too_many.min(live.len())]);
        let eviction = Revocation::eviction(session.created_at);
        for oldest in &evicted {
            revoke_one(transaction, oldest.id, &eviction).await?;
        }
    }
    let sql = format!("INSERT INTO sessions ({COLUMNS}) VALUES ({})", placeholders(COLUMN_COUNT));
    transaction.execute_raw(statement(&sql, values(session))).await?;
    Ok(Insertion::Stored { evicted })
}

async fn import(transaction: &DatabaseTransaction, sessions: &[Session]) -> Result<u64, DbErr> {
    let mut new = 0;
    for chunk in sessions.chunks(CHUNK) {
        let row = format!("({})", placeholders(COLUMN_COUNT));
        let rows = vec![row; chunk.len()].join(", ");
        let sql =
            format!("INSERT INTO sessions ({COLUMNS}) VALUES {rows} ON CONFLICT (id) DO NOTHING");
        let statement = statement(&sql, chunk.iter().flat_map(values));
        new += transaction.execute_raw(statement).await?.rows_affected();
    }
    for session in sessions {
        if let Some(revocation) = &session.revocation {
            revoke_one(transaction, session.id, revocation).await?;
        }
    }
    Ok(new)
}

async fn revoke_one(
    transaction: &DatabaseTransaction,
    id: SessionId,
    revocation: &Revocation,
) -> Result<(), DbErr> {
    let values = revocation_values(revocation).into_iter().chain([id.0.into()]);
    transaction.execute_raw(statement(&format!("{REVOKE} AND id = ?"), values)).await.map(drop)
}

/// Returns the parameters of [`REVOKE`].
fn revocation_values(revocation: &Revocation) -> [Value; 3] {
    [
        revocation.at.timestamp_micros().into(),
        revocation.reason.clone().into(),
        actor_text(revocation).into(),
    ]
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Returns the counts of [`COUNT`].
fn counts(row: Option<QueryResult>) -> Result<(u64, u64), DbErr> {
    let row = row.ok_or_else(|| DbErr::RecordNotFound("count(*)".to_owned()))?;
    let (total, active): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    Ok((total.unsigned_abs(), active.unsigned_abs()))
}

fn session(read: SessionRead) -> Session {
    Arc::unwrap_or_clone(read.session)
}

/// Reads a row of `id, user_id`.
fn session_key(row: &QueryResult) -> Result<SessionKey, DbErr> {
    Ok(SessionKey {
        id: SessionId(row.try_get_by_index(0)?),
        user_id: UserId(row.try_get_by_index(1)?),
    })
}
