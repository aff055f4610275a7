//! Batches reads of Redis.

use batching::{BatchError, Batcher};
use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Error, ErrorKind, KeysInterface, Pool};

use crate::connection::{COMMAND_TIMEOUT, options};

/// Batches `GET`s: those that come while one is in flight are one `MGET`.
pub(crate) struct BatchedGets(Batcher<Bytes, Result<Option<Bytes>, Error>>);

impl BatchedGets {
    /// Creates a batcher for this pool, by a task of the present runtime that ends when this is dropped.
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Batcher::new(move |keys| get_all(pool.clone(), keys)))
    }

    /// Returns the value of the key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Error> {
        self.0.load(key).await.map_err(|error| match error {
            BatchError::QueueFull => Error::new(ErrorKind::Backpressure, "too many look-ups"),
            BatchError::Cancelled => Error::new_canceled(),
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
