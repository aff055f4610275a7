//! Batches reads of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use batching::{BatchError, Batcher};
use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Error, ErrorKind, KeysInterface};

use crate::commands::{Commands, is_silence};
use crate::connection::{one_line, options};

/// Batches `GET`s: those that come while one is in flight are one `MGET`.
pub(crate) struct BatchedGets(Batcher<Bytes, Result<Option<Bytes>, Error>>);

impl BatchedGets {
    /// Creates a batcher for these commands, by a task of the present runtime that ends when this
    /// is dropped. `has_mget` says whether the server is known to have and allow `MGET`.
    pub(crate) fn new(commands: Arc<Commands>, has_mget: bool) -> Self {
        let gets = Arc::new(Gets {
            commands,
            silent_mgets: AtomicU32::new(if has_mget { 0 } else { NO_MGET }),
        });
        Self(Batcher::new(move |keys| {
            let gets = gets.clone();
            async move { gets.all(keys).await }
        }))
    }

    /// Returns the value of the key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Error> {
        self.0.load(key).await.map_err(|error| match error {
            BatchError::QueueFull => Error::new(ErrorKind::Backpressure, "too many look-ups"),
            BatchError::Cancelled => Error::new_canceled(),
        })?
    }
}

/// `MGET`s in a row that got no response, after which `GET`s are tried: some proxies say nothing
/// to a command that they do not know.
const SILENT_MGETS: u32 = 2;
/// `MGET` is of no use here.
const NO_MGET: u32 = u32::MAX;

struct Gets {
    commands: Arc<Commands>,
    /// `MGET`s in a row that got no response, or [`NO_MGET`].
    silent_mgets: AtomicU32,
}

impl Gets {
    async fn all(&self, keys: Vec<Bytes>) -> Vec<Result<Option<Bytes>, Error>> {
        let count = keys.len();
        let result = match self.silent_mgets.load(Ordering::Relaxed) {
            _ if count == 1 => self.by_get(keys).await,
            NO_MGET => self.by_get(keys).await,
            silent if silent >= SILENT_MGETS => {
                let result = self.by_get(keys).await;
                match &result {
                    Ok(_) => self.give_up_mget("it gets no response, and GET does"),
                    // The server is silent altogether.
                    Err(_) => self.silent_mgets.store(0, Ordering::Relaxed),
                }
                result
            }
            _ => self.by_mget(keys).await,
        };
        match result {
            Ok(values) => values.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn by_mget(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, Error> {
        let client = self.commands.pool.next().with_options(&options());
        let result =
            self.commands.run("mget", client.mget::<Vec<Option<Bytes>>, _>(keys.clone())).await;
        match result {
            Ok(values) => {
                self.silent_mgets.store(0, Ordering::Relaxed);
                Ok(values)
            }
            Err(error) if is_silence(&error) => {
                self.silent_mgets.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
            // Not allowed (NOPERM), unknown, or for keys of one server only (CROSSSLOT).
            Err(error) => {
                self.give_up_mget(&one_line(&error));
                self.by_get(keys).await
            }
        }
    }

    /// Sends one command for a key; for several, one pipeline.
    async fn by_get(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, Error> {
        let client = self.commands.pool.next().with_options(&options());
        if let [key] = &keys[..] {
            let value =
                self.commands.run("get", client.get::<Option<Bytes>, _>(key.clone())).await?;
            return Ok(vec![value]);
        }
        let queued = async {
            let pipeline = client.pipeline();
            for key in keys {
                let _: () = pipeline.get(key).await?;
            }
            pipeline.all::<Vec<Option<Bytes>>>().await
        };
        self.commands.run("get", queued).await
    }

    fn give_up_mget(&self, why: &str) {
        if self.silent_mgets.swap(NO_MGET, Ordering::Relaxed) != NO_MGET {
            tracing::warn!(
                why,
                "redis does not take MGET; concurrent reads are pipelines of GET from now on"
            );
        }
    }
}
