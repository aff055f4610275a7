use std::sync::Arc;

use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Error, ErrorKind, KeysInterface, Pool};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::connection::{COMMAND_TIMEOUT, options};

/// Commands that are under way at a time, one for each connection. So many questions at once are a command each; more are gathered.
const LANES: usize = 2;
/// Keys that one command asks for at most.
const MOST: usize = 256;
/// Questions that wait; more are refused at once.
const WAITING: usize = 10_000;

/// `GET`s. While commands are under way, whoever asks waits for the next one, an `MGET` for all that wait: the more questions there are,
/// the less each costs.
pub(crate) struct GatheredGets(mpsc::Sender<Question>);

struct Question {
    key: Bytes,
    answer: oneshot::Sender<Result<Option<Bytes>, Error>>,
}

impl GatheredGets {
    /// Of this pool, by tasks of the present runtime that end when this is dropped.
    pub(crate) fn new(pool: &Pool) -> Self {
        let (sender, questions) = mpsc::channel(WAITING);
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..LANES {
            tokio::spawn(answer_all(pool.clone(), questions.clone()));
        }
        Self(sender)
    }

    /// The value of the key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let (answer, answered) = oneshot::channel();
        let refused = |_| Error::new(ErrorKind::Backpressure, "too many questions");
        self.0.try_send(Question { key, answer }).map_err(refused)?;
        answered.await.map_err(|_| Error::new_canceled())?
    }
}

async fn answer_all(pool: Pool, questions: Arc<Mutex<mpsc::Receiver<Question>>>) {
    let mut gathered = Vec::new();
    loop {
        if questions.lock().await.recv_many(&mut gathered, MOST).await == 0 {
            return;
        }
        // Whoever has gone away needs no answer.
        gathered.retain(|question| !question.answer.is_closed());
        if !gathered.is_empty() {
            answer(&pool, gathered.drain(..)).await;
        }
    }
}

async fn answer(pool: &Pool, questions: impl Iterator<Item = Question>) {
    let (keys, answers): (Vec<_>, Vec<_>) = questions.map(|question| (question.key, question.answer)).unzip();
    let client = pool.next().with_options(&options());
    let values = tokio::time::timeout(COMMAND_TIMEOUT, client.mget::<Vec<Option<Bytes>>, _>(keys)).await;
    let values = values.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer in time")));
    let mut values = values.map(Vec::into_iter);
    for answer in answers {
        let value = values.as_mut().map(|values| values.next().flatten()).map_err(|error| error.clone());
        // Whoever asked may have gone away.
        let _ = answer.send(value);
    }
}
