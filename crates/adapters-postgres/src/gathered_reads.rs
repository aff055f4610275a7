use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use domain::coherence::{ReadStamp, Stamp};
use domain::ports::PortError;
use domain::{Session, SessionId};
use gathering::Gathering;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::error::port_error;
use crate::postgres_database::{PostgresDatabase, incarnation, statement};
use crate::session_row::{self, COLUMNS};

/// The rows, and what the read has seen: every transaction before its snapshot's xmin. On a standby an unlogged table cannot be read, and
/// so the read fails: a standby may be behind.
static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COLUMNS}, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS seen_below,
            (SELECT database_timeline.id FROM database_timeline) AS timeline
        FROM sessions WHERE id = ANY($1)"
    )
});

/// Reads of single sessions. While a statement is under way, whoever asks waits for the next one, which asks for all that wait.
pub(crate) struct GatheredReads(Gathering<Uuid, Result<Option<Session>, PortError>>);

impl GatheredReads {
    /// Reads of this database, by a task of the present runtime that ends when this is dropped.
    pub(crate) fn new(database: Arc<PostgresDatabase>) -> Self {
        Self(Gathering::new(move |ids| find_all(database.clone(), ids)))
    }

    /// The session as the database has it now.
    pub(crate) async fn find(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        self.0.ask(session_id.0).await.map_err(PortError::unavailable)?
    }
}

async fn find_all(database: Arc<PostgresDatabase>, ids: Vec<Uuid>) -> Vec<Result<Option<Session>, PortError>> {
    let find = statement(&FIND, [ids.clone().into()]);
    let id = |row: QueryResult| Ok((row.try_get_by_index::<Uuid>(0)?, row));
    let find = || async { database.pool().query_all_raw(find.clone()).await?.into_iter().map(id).collect() };
    let rows: HashMap<Uuid, QueryResult> = match database.read(find).await {
        Ok(rows) => rows,
        Err(error) => {
            let error = Arc::new(error);
            return ids.iter().map(|_| Err(PortError::shared(error.clone()))).collect();
        }
    };
    let session = |id| rows.get(id).map(|row| stamped(row, database.system())).transpose().map_err(port_error);
    ids.iter().map(session).collect()
}

fn stamped(row: &QueryResult, system: u64) -> Result<Session, DbErr> {
    let mut session = Session::from(session_row::Model::from_query_result(row, "")?);
    let (seen_below, timeline): (i64, Option<i32>) = (row.try_get("", "seen_below")?, row.try_get("", "timeline")?);
    // After a crash, nothing is counted before the next look.
    session.stamp = Stamp(timeline.map(|timeline| ReadStamp {
        incarnation: incarnation(system, timeline),
        seen_below: seen_below.unsigned_abs(),
    }));
    Ok(session)
}
