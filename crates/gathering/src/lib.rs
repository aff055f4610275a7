//! Questions that are asked at about the same time, asked together: the more there are, the less each costs.
//!
//! For adapters whose server answers many questions for little more than one. It knows neither sessions nor servers.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long a question waits for others, at most, while an earlier one is still unanswered. Less than the time in which people notice
/// anything, more than a round trip within a data centre.
pub const PATIENCE: Duration = Duration::from_millis(1);
/// Calls that are under way at a time. A server that needs longer than [`PATIENCE`] gets several.
pub const UNDER_WAY: usize = 4;
/// Questions of one call, at most.
pub const AT_ONCE: usize = 256;
/// Questions that wait for a call, at most; more are refused at once.
pub const WAITING: usize = 10_000;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// [`WAITING`] others wait already. Nobody was asked.
    #[error("too many questions wait for an answer")]
    Refused,
    /// The call ended without an answer to this question.
    #[error("the question was given up")]
    GivenUp,
}

/// Asks one question at once, and gathers those that come while it is unanswered, but no longer than for [`PATIENCE`]: they go together.
///
/// A question is never answered by a call that began before it was asked, so an answer is as new as that of a call of its own.
pub struct Gathering<Q, A>(mpsc::Sender<Asked<Q, A>>);

struct Asked<Q, A> {
    question: Q,
    answer: oneshot::Sender<A>,
}

impl<Q: Send + 'static, A: Send + 'static> Gathering<Q, A> {
    /// `call` answers questions, each in its place, and sees to its own time-out. To be called on a tokio runtime: a task of it gathers
    /// until this is dropped.
    pub fn new<F>(call: impl Fn(Vec<Q>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let (sender, asked) = mpsc::channel(WAITING);
        tokio::spawn(gather(asked, Arc::new(call)));
        Self(sender)
    }

    /// The answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, question: Q) -> Result<A, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Asked { question, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Refused,
            mpsc::error::TrySendError::Closed(_) => Unanswered::GivenUp,
        })?;
        answered.await.map_err(|_| Unanswered::GivenUp)
    }
}

async fn gather<Q: Send + 'static, A: Send + 'static, F>(
    mut asked: mpsc::Receiver<Asked<Q, A>>,
    call: Arc<impl Fn(Vec<Q>) -> F + Send + Sync + 'static>,
) where
    F: Future<Output = Vec<A>> + Send + 'static,
{
    let mut gathered = Vec::new();
    // Tasks of their own: one that panics takes nobody's questions but its own with it.
    let mut under_way = JoinSet::new();
    while asked.recv_many(&mut gathered, AT_ONCE).await > 0 {
        // Whoever has gone away needs no answer: after an outage, most have.
        gathered.retain(|asked| !asked.answer.is_closed());
        if gathered.is_empty() {
            continue;
        }
        while under_way.try_join_next().is_some() {}
        let (questions, answers): (Vec<_>, Vec<_>) = gathered.drain(..).map(|one| (one.question, one.answer)).unzip();
        let call = call.clone();
        // The call itself is made in that task too: it may panic before its first wait.
        under_way.spawn(async move {
            for (answer, to) in call(questions).await.into_iter().zip(answers) {
                // Whoever asked may have gone away.
                let _ = to.send(answer);
            }
        });
        let may_go_on = under_way.len() < UNDER_WAY;
        tokio::select! {
            _ = under_way.join_next() => {}
            () = tokio::time::sleep(PATIENCE), if may_go_on => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, sleep};

    use super::*;

    type Calls = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Doubles numbers, and tells which it was asked at once. A number is also how many microseconds its call takes.
    fn doubling() -> (Arc<Gathering<u32, u32>>, Calls) {
        let calls = Calls::default();
        let heard = calls.clone();
        let gathering = Gathering::new(move |numbers: Vec<u32>| {
            heard.lock().unwrap().push(numbers.clone());
            async move {
                sleep(Duration::from_micros(numbers.iter().copied().max().unwrap_or(0).into())).await;
                numbers.into_iter().map(|number| number * 2).collect()
            }
        });
        (Arc::new(gathering), calls)
    }

    async fn ask_all(gathering: &Arc<Gathering<u32, u32>>, numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut asking = JoinSet::new();
        for number in numbers {
            let gathering = gathering.clone();
            asking.spawn(async move { gathering.ask(number).await.unwrap() });
        }
        let mut answers = asking.join_all().await;
        answers.sort_unstable();
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_alone_does_not_wait() {
        let (gathering, calls) = doubling();
        let began = Instant::now();
        for number in 0..10 {
            assert_eq!(gathering.ask(number).await, Ok(number * 2));
        }
        assert!(began.elapsed() < PATIENCE * 10 * 2, "{:?}", began.elapsed());
        assert_eq!(calls.lock().unwrap().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_come_meanwhile_go_together_and_each_is_answered() {
        let (gathering, calls) = doubling();
        let first = tokio::spawn({
            let gathering = gathering.clone();
            async move { gathering.ask(900).await }
        });
        tokio::task::yield_now().await;
        let answers = ask_all(&gathering, 0..600).await;
        assert_eq!(answers, (0..600).map(|number| number * 2).collect::<Vec<_>>());
        assert_eq!(first.await.unwrap(), Ok(1800));
        let sizes: Vec<_> = calls.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, AT_ONCE, AT_ONCE, 600 - 2 * AT_ONCE]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_holds_nobody_up_and_only_so_many_hang() {
        let (gathering, calls) = doubling();
        const HANGS: u32 = 5_000_000;
        let mut hanging = JoinSet::new();
        for n in 1..UNDER_WAY as u32 {
            let gathering = gathering.clone();
            hanging.spawn(async move { gathering.ask(HANGS + n).await });
            sleep(PATIENCE * 3).await;
        }
        let began = Instant::now();
        assert_eq!(ask_all(&gathering, [1, 2]).await, [2, 4]);
        assert!(began.elapsed() < PATIENCE * 5, "{:?}", began.elapsed());

        for n in 0..10 {
            let gathering = gathering.clone();
            hanging.spawn(async move { gathering.ask(HANGS + n).await });
            sleep(PATIENCE * 3).await;
        }
        assert_eq!(calls.lock().unwrap().len(), UNDER_WAY + 1, "what came after these waits for one of them");
        assert_eq!(hanging.join_all().await.len(), UNDER_WAY + 9, "and is answered in the end");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_those_who_have_gone_away() {
        let (gathering, calls) = doubling();
        let hanging = tokio::spawn({
            let gathering = gathering.clone();
            async move { gathering.ask(900).await }
        });
        tokio::task::yield_now().await;
        let gone = tokio::time::timeout(Duration::from_micros(1), gathering.ask(7)).await;
        assert!(gone.is_err());
        assert_eq!(gathering.ask(8).await, Ok(16));
        hanging.await.unwrap().unwrap();
        assert_eq!(*calls.lock().unwrap(), [vec![900], vec![8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_may_wait_are_refused_at_once() {
        let gathering = Arc::new(Gathering::new(|_: Vec<usize>| std::future::pending::<Vec<()>>()));
        let mut asking = JoinSet::new();
        let mut ask = |n| {
            let gathering = gathering.clone();
            asking.spawn(async move { tokio::time::timeout(Duration::from_secs(1), gathering.ask(n)).await });
        };
        // Each a call of its own, and then all calls that may be under way hang.
        for n in 0..UNDER_WAY {
            ask(n);
            sleep(PATIENCE * 2).await;
        }
        for n in 0..WAITING + 7 {
            ask(n);
        }
        let answers = asking.join_all().await;
        let refused = answers.iter().filter(|answer| **answer == Ok(Err(Unanswered::Refused))).count();
        assert_eq!(refused, 7);
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), UNDER_WAY + WAITING, "the others wait");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_or_answers_too_little_leaves_the_others_alone() {
        let gathering = Gathering::new(|numbers: Vec<u32>| async move {
            assert_ne!(numbers, [13], "unlucky");
            numbers.into_iter().filter(|number| *number != 7).collect::<Vec<_>>()
        });
        assert_eq!(gathering.ask(13).await, Err(Unanswered::GivenUp));
        assert_eq!(gathering.ask(7).await, Err(Unanswered::GivenUp));
        assert_eq!(gathering.ask(8).await, Ok(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_before_its_first_wait_leaves_the_others_alone() {
        let gathering = Gathering::new(|numbers: Vec<u32>| {
            assert_ne!(numbers, [13], "unlucky");
            std::future::ready(numbers)
        });
        assert_eq!(gathering.ask(13).await, Err(Unanswered::GivenUp));
        assert_eq!(gathering.ask(8).await, Ok(8));
    }
}
