//! Batches concurrent look-ups into one call to a backend: the more there are, the less each costs.
//!
//! For adapters whose server serves many look-ups at little more than the cost of one. It knows
//! neither sessions nor servers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long a look-up waits for others, at most, while an earlier call is in flight. Less than the
/// time in which people notice anything, more than a round trip within a data centre.
pub const MAX_LINGER: Duration = Duration::from_millis(1);
/// Calls in flight at a time, independent of the size of the backend's pool of connections. A
/// server that needs longer than [`MAX_LINGER`] gets several; while all of them hang, other
/// look-ups wait for their time-outs.
pub const MAX_IN_FLIGHT: usize = 4;
/// Keys of one call, at most.
pub const MAX_BATCH: usize = 256;
/// Look-ups that wait for a call, at most. More are refused at once.
pub const MAX_QUEUED: usize = 10_000;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// [`MAX_QUEUED`] others wait already. The backend was not asked.
    #[error("too many look-ups wait for a response")]
    QueueFull,
    /// The call ended without a value for this key.
    #[error("the look-up was cancelled")]
    Cancelled,
}

/// Sends one look-up at once, and batches those that come while it is in flight, but no longer than
/// for [`MAX_LINGER`]. Look-ups of the same key in one batch are one.
///
/// A look-up never gets the value of a call that began before it, so its value is as new as that of
/// a call of its own.
pub struct Batcher<K, V>(mpsc::Sender<LookUp<K, V>>);

struct LookUp<K, V> {
    key: K,
    value: oneshot::Sender<V>,
}

/// The look-ups of one call, by key.
struct Batch<K, V> {
    keys: Vec<K>,
    callers: Vec<Vec<oneshot::Sender<V>>>,
    index: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + 'static> Batcher<K, V> {
    /// Creates a batcher. `call` returns the values of its keys, each in its place, and sees to its
    /// own time-out.
    ///
    /// # Panics
    /// Outside a tokio runtime: a task of it batches until the batcher is dropped.
    pub fn new<F>(call: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<V>> + Send + 'static,
    {
        Self::with_linger(MAX_LINGER, call)
    }

    /// The same, which lets a look-up wait for others for another time than [`MAX_LINGER`]: for
    /// calls that take their time.
    ///
    /// # Panics
    /// As for [`new`](Self::new).
    pub fn with_linger<F>(
        linger: Duration,
        call: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<V>> + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(run(linger, queue, Arc::new(call)));
        Self(sender)
    }

    /// Returns the value of the key.
    ///
    /// # Errors
    /// [`BatchError`].
    ///
    /// # Cancel safety
    /// A look-up that is dropped while it waits is not sent, unless another one is for the same
    /// key.
    pub async fn load(&self, key: K) -> Result<V, BatchError> {
        let (value, loaded) = oneshot::channel();
        self.0.try_send(LookUp { key, value }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BatchError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => BatchError::Cancelled,
        })?;
        loaded.await.map_err(|_| BatchError::Cancelled)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Batch<K, V> {
    /// Takes the look-ups that are in the queue, as many as fit.
    fn take(first: LookUp<K, V>, queue: &mut mpsc::Receiver<LookUp<K, V>>) -> Self {
        let mut batch = Self { keys: Vec::new(), callers: Vec::new(), index: HashMap::new() };
        batch.add(first);
        while batch.keys.len() < MAX_BATCH
            && let Ok(look_up) = queue.try_recv()
        {
            batch.add(look_up);
        }
        batch
    }

    fn add(&mut self, LookUp { key, value }: LookUp<K, V>) {
        // A caller who has gone away needs no value: after an outage, most have.
        if value.is_closed() {
            return;
        }
        let new = self.keys.len();
        let index = *self.index.entry(key.clone()).or_insert(new);
        if index == new {
            self.keys.push(key);
            self.callers.push(Vec::new());
        }
        self.callers[index].push(value);
    }
}

async fn run<K, V, F>(
    linger: Duration,
    mut queue: mpsc::Receiver<LookUp<K, V>>,
    call: Arc<impl Fn(Vec<K>) -> F + Send + Sync + 'static>,
) where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
    F: Future<Output = Vec<V>> + Send + 'static,
{
    // Tasks of their own: one that panics takes no look-ups but its own with it.
    let mut in_flight = JoinSet::new();
    while let Some(first) = queue.recv().await {
        let Batch { keys, callers, .. } = Batch::take(first, &mut queue);
        if keys.is_empty() {
            continue;
        }
        while in_flight.try_join_next().is_some() {}
        let call = call.clone();
        // The call itself is made in that task too: it may panic before its first wait.
        in_flight.spawn(async move {
            for (value, callers) in call(keys).await.into_iter().zip(callers) {
                for caller in callers {
                    // The caller may have gone away.
                    let _ = caller.send(value.clone());
                }
            }
        });
        let has_room = in_flight.len() < MAX_IN_FLIGHT;
        tokio::select! {
            _ = in_flight.join_next() => {}
            () = tokio::time::sleep(linger), if has_room => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, sleep};

    use super::*;

    type Calls = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Doubles numbers, and notes the keys of each call. A number is also how many microseconds its
    /// call takes.
    fn doubling() -> (Arc<Batcher<u32, u32>>, Calls) {
        let calls = Calls::default();
        let received = calls.clone();
        let batcher = Batcher::new(move |numbers: Vec<u32>| {
            received.lock().unwrap().push(numbers.clone());
            async move {
                sleep(Duration::from_micros(numbers.iter().copied().max().unwrap_or(0).into()))
                    .await;
                numbers.into_iter().map(|number| number * 2).collect()
            }
        });
        (Arc::new(batcher), calls)
    }

    async fn load_all(
        batcher: &Arc<Batcher<u32, u32>>,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Vec<u32> {
        let mut loading = JoinSet::new();
        for number in numbers {
            let batcher = batcher.clone();
            loading.spawn(async move { batcher.load(number).await.unwrap() });
        }
        let mut responses = loading.join_all().await;
        responses.sort_unstable();
        responses
    }

    #[tokio::test(start_paused = true)]
    async fn look_up_alone_does_not_wait() {
        let (batcher, calls) = doubling();
        let began = Instant::now();
        for number in 0..10 {
            assert_eq!(batcher.load(number).await, Ok(number * 2));
        }
        assert!(began.elapsed() < MAX_LINGER * 10 * 2, "{:?}", began.elapsed());
        assert_eq!(calls.lock().unwrap().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_come_meanwhile_are_one_call_and_each_gets_its_value() {
        let (batcher, calls) = doubling();
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.load(900).await }
        });
        tokio::task::yield_now().await;
        let responses = load_all(&batcher, 0..600).await;
        assert_eq!(responses, (0..600).map(|number| number * 2).collect::<Vec<_>>());
        assert_eq!(first.await.unwrap(), Ok(1800));
        let sizes: Vec<_> = calls.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, MAX_BATCH, MAX_BATCH, 600 - 2 * MAX_BATCH]);
    }

    /// A stampede on one key.
    #[tokio::test(start_paused = true)]
    async fn look_ups_of_one_key_are_one_and_never_join_a_call_that_began_before() {
        let (batcher, calls) = doubling();
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.load(900).await }
        });
        tokio::task::yield_now().await;
        let values = load_all(&batcher, std::iter::repeat_n(900, 1000).chain([7])).await;
        assert_eq!((values.len(), values[0], values[1000]), (1001, 14, 1800));
        assert_eq!(first.await.unwrap(), Ok(1800));
        let calls = calls.lock().unwrap();
        assert_eq!((calls.len(), &calls[0][..]), (2, &[900][..]));
        assert_eq!(calls[1].len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_hangs_keeps_no_other_waiting_and_only_so_many_hang() {
        let (batcher, calls) = doubling();
        const HANGS: u32 = 5_000_000;
        let mut hanging = JoinSet::new();
        for n in 1..MAX_IN_FLIGHT as u32 {
            let batcher = batcher.clone();
            hanging.spawn(async move { batcher.load(HANGS + n).await });
            sleep(MAX_LINGER * 3).await;
        }
        let began = Instant::now();
        assert_eq!(load_all(&batcher, [1, 2]).await, [2, 4]);
        assert!(began.elapsed() < MAX_LINGER * 5, "{:?}", began.elapsed());

        for n in 0..10 {
            let batcher = batcher.clone();
            hanging.spawn(async move { batcher.load(HANGS + n).await });
            sleep(MAX_LINGER * 3).await;
        }
        assert_eq!(
            calls.lock().unwrap().len(),
            MAX_IN_FLIGHT + 1,
            "what came after these waits for one of them"
        );
        assert_eq!(hanging.join_all().await.len(), MAX_IN_FLIGHT + 9, "and is served in the end");
    }

    #[tokio::test(start_paused = true)]
    async fn look_up_whose_caller_has_gone_away_is_not_sent() {
        let (batcher, calls) = doubling();
        let hanging = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.load(900).await }
        });
        tokio::task::yield_now().await;
        let gone = tokio::time::timeout(Duration::from_micros(1), batcher.load(7)).await;
        assert!(gone.is_err());
        assert_eq!(batcher.load(8).await, Ok(16));
        hanging.await.unwrap().unwrap();
        assert_eq!(*calls.lock().unwrap(), [vec![900], vec![8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_beyond_the_queue_are_refused_at_once() {
        let batcher = Arc::new(Batcher::new(|_: Vec<usize>| std::future::pending::<Vec<()>>()));
        let mut loading = JoinSet::new();
        let mut ask = |n| {
            let batcher = batcher.clone();
            loading.spawn(async move {
                tokio::time::timeout(Duration::from_secs(1), batcher.load(n)).await
            });
        };
        // Each a call of its own, and then all calls that may be in flight hang.
        for n in 0..MAX_IN_FLIGHT {
            ask(n);
            sleep(MAX_LINGER * 2).await;
        }
        for n in 0..MAX_QUEUED + 7 {
            ask(n);
        }
        let responses = loading.join_all().await;
        let refused = responses
            .iter()
            .filter(|response| **response == Ok(Err(BatchError::QueueFull)))
            .count();
        assert_eq!(refused, 7);
        assert_eq!(
            responses.iter().filter(|response| response.is_err()).count(),
            MAX_IN_FLIGHT + MAX_QUEUED,
            "the others wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_panics_or_returns_too_few_values_affects_no_other() {
        let batcher = Batcher::new(|numbers: Vec<u32>| async move {
            assert_ne!(numbers, [13], "unlucky");
            numbers.into_iter().filter(|number| *number != 7).collect::<Vec<_>>()
        });
        assert_eq!(batcher.load(13).await, Err(BatchError::Cancelled));
        assert_eq!(batcher.load(7).await, Err(BatchError::Cancelled));
        assert_eq!(batcher.load(8).await, Ok(8));
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_panics_before_its_first_wait_affects_no_other() {
        let batcher = Batcher::new(|numbers: Vec<u32>| {
            assert_ne!(numbers, [13], "unlucky");
            std::future::ready(numbers)
        });
        assert_eq!(batcher.load(13).await, Err(BatchError::Cancelled));
        assert_eq!(batcher.load(8).await, Ok(8));
    }
}
