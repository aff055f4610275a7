use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Error, ErrorKind, KeysInterface, Pool};
use gathering::{Gathering, Unanswered};

use crate::connection::{COMMAND_TIMEOUT, options};

/// `GET`s. While one is under way, whoever asks waits for the next, an `MGET` for all that wait.
pub(crate) struct GatheredGets(Gathering<Bytes, Result<Option<Bytes>, Error>>);

impl GatheredGets {
    /// Of this pool, by a task of the present runtime that ends when this is dropped.
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Gathering::new(move |keys| get_all(pool.clone(), keys)))
    }

    /// The value of the key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Error> {
        self.0.ask(key).await.map_err(|unanswered| match unanswered {
            Unanswered::Refused => Error::new(ErrorKind::Backpressure, "too many questions"),
            Unanswered::GivenUp => Error::new_canceled(),
        })?
    }
}

async fn get_all(pool: Pool, keys: Vec<Bytes>) -> Vec<Result<Option<Bytes>, Error>> {
    let (count, client) = (keys.len(), pool.next().with_options(&options()));
    let values = tokio::time::timeout(COMMAND_TIMEOUT, client.mget::<Vec<Option<Bytes>>, _>(keys)).await;
    match values.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer in time"))) {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}
