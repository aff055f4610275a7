use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use domain::coherence::{ReadStamp, Stamp};
use domain::ports::PortError;
use domain::{Session, SessionId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, QueryResult};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use crate::error::port_error;
use crate::postgres_database::{PostgresDatabase, incarnation, statement};
use crate::session_row::{self, COLUMNS};

/// Statements that are under way at a time. So many questions at once are a statement each; more are gathered.
const LANES: usize = 4;
/// Sessions that one statement reads at most.
const MOST: usize = 256;
/// Questions that wait; more are refused at once.
const WAITING: usize = 10_000;

/// The rows, and what the read has seen: every transaction before its snapshot's xmin. On a standby an unlogged table cannot be read, and
/// so the read fails: a standby may be behind.
static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COLUMNS}, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS seen_below,
            (SELECT database_timeline.id FROM database_timeline) AS timeline
        FROM sessions WHERE id = ANY($1)"
    )
});

/// Reads of single sessions. While statements are under way, whoever asks waits for the next one, which asks for all that wait: the more
/// questions there are, the less each costs the database.
///
/// A question is never answered by a statement that was sent before it was asked, so an answer is as new as that of a statement
/// of its own.
pub(crate) struct GatheredReads(mpsc::Sender<Question>);

struct Question {
    session_id: Uuid,
    answer: oneshot::Sender<Result<Option<Session>, PortError>>,
}

impl GatheredReads {
    /// Reads of this database, by tasks of the present runtime that end when this is dropped.
    pub(crate) fn new(database: &Arc<PostgresDatabase>) -> Self {
        let (sender, questions) = mpsc::channel(WAITING);
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..LANES {
            tokio::spawn(answer_all(database.clone(), questions.clone()));
        }
        Self(sender)
    }

    /// The session as the database has it now.
    pub(crate) async fn find(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { session_id: session_id.0, answer }).map_err(PortError::unavailable)?;
        answered.await.map_err(PortError::unavailable)?
    }
}

async fn answer_all(database: Arc<PostgresDatabase>, questions: Arc<Mutex<mpsc::Receiver<Question>>>) {
    let mut gathered = Vec::new();
    loop {
        if questions.lock().await.recv_many(&mut gathered, MOST).await == 0 {
            return;
        }
        // Whoever has gone away needs no answer: after an outage, most have.
        gathered.retain(|question| !question.answer.is_closed());
        if !gathered.is_empty() {
            answer(&database, gathered.drain(..)).await;
        }
    }
}

async fn answer(database: &PostgresDatabase, questions: impl ExactSizeIterator<Item = Question>) {
    let mut waiting = HashMap::<Uuid, Vec<_>>::with_capacity(questions.len());
    for question in questions {
        waiting.entry(question.session_id).or_default().push(question.answer);
    }
    let ids: Vec<_> = waiting.keys().copied().collect();
    let find = statement(&FIND, [ids.into()]);
    let id = |row: QueryResult| Ok((row.try_get::<Uuid>("", "id")?, row));
    let find = || async { database.pool().query_all_raw(find.clone()).await?.into_iter().map(id).collect() };
    let mut rows: HashMap<Uuid, QueryResult> = match database.read(find).await {
        Ok(rows) => rows,
        Err(error) => {
            let error = Arc::new(error);
            for answer in waiting.into_values().flatten() {
                let _ = answer.send(Err(PortError::shared(error.clone())));
            }
            return;
        }
    };
    for (id, answers) in waiting {
        let row = rows.remove(&id);
        for answer in answers {
            let session = row.as_ref().map(|row| stamped(row, database.system())).transpose();
            // Whoever asked may have gone away.
            let _ = answer.send(session.map_err(port_error));
        }
    }
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
