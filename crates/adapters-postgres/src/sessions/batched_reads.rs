//! Batches reads of single sessions.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use batching::Batcher;
use domain::coherence::{ReadVersion, SessionRead, Snapshot};
use domain::ports::PortError;
use domain::{Session, SessionId};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::database::error::port_error;
use crate::database::pool::{PostgresDatabase, statement};
use crate::revocation_feed::incarnation;
use crate::sessions::row::{self as session_row, COLUMNS};

/// The rows, and what the read has seen: in which life of which database, and which transactions. A
/// life is valid where its row is bound to this table, this database and this run of the server,
/// which a poll has verified (see `migrations/0003_revocation_log.sql`). On a standby an unlogged
/// table cannot be read, and so the read fails: a standby may be behind.
static FIND: LazyLock<String> = LazyLock::new(|| {
    let columns = COLUMNS
        .split(',')
        .map(|column| format!("sessions.{}", column.trim()))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "SELECT l.system AS life_system, l.database, l.life,
            pg_current_snapshot()::text AS snapshot, {columns}
        FROM sessions LEFT JOIN database_incarnation l ON l.sessions_table = sessions.tableoid
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.server_started = pg_postmaster_start_time() AND l.xmin = l.written_by::xid
        WHERE sessions.id = ANY($1)"
    )
});

/// Reads of single sessions. Those that come while a statement is in flight are one statement.
pub(crate) struct BatchedReads(Batcher<Uuid, Found>);

type Found = Result<Option<SessionRead>, Arc<PortError>>;

impl BatchedReads {
    /// Creates a batcher for this database, by a task of the present runtime that ends when this is
    /// dropped.
    pub(crate) fn new(database: Arc<PostgresDatabase>) -> Self {
        Self(Batcher::new(move |ids| find_all(database.clone(), ids)))
    }

    /// Returns the session as the database has it now.
    pub(crate) async fn find(
        &self,
        session_id: SessionId,
    ) -> Result<Option<SessionRead>, PortError> {
        self.0.load(session_id.0).await.map_err(PortError::unavailable)?.map_err(PortError::shared)
    }
}

async fn find_all(database: Arc<PostgresDatabase>, ids: Vec<Uuid>) -> Vec<Found> {
    let find = statement(&FIND, [ids.clone().into()]);
    let id = |row: QueryResult| Ok((row.try_get::<Uuid>("", "id").map_err(port_error)?, row));
    let rows = database.read(find).await.and_then(|rows| rows.into_iter().map(id).collect());
    let rows: HashMap<Uuid, QueryResult> = match rows {
        Ok(rows) => rows,
        Err(error) => return vec![Err(Arc::new(error)); ids.len()],
    };
    let read = |id| rows.get(id).map(read).transpose().map_err(|error| Arc::new(port_error(error)));
    ids.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<SessionRead, DbErr> {
    let session = Arc::new(Session::from(session_row::Model::from_query_result(row, "")?));
    let snapshot: String = row.try_get("", "snapshot")?;
    let snapshot = Snapshot::parse(&snapshot)
        .ok_or_else(|| DbErr::Type(format!("not a snapshot: {snapshot}")))?;
    // Where no life is valid, nothing can be cached before the next poll.
    let version = incarnation(row, 0)?
        .map(|incarnation| ReadVersion { incarnation, snapshot: snapshot.limited() });
    Ok(SessionRead { session, version })
}
