//! Which transactions a statement could see.

/// Which transactions a statement could see, by their ids, which a store gives out in ascending
/// order.
///
/// This is PostgreSQL's `pg_snapshot` (PostgreSQL manual, "Transaction ID and Snapshot Information
/// Functions"): every id below `xmax` is visible, but those of transactions that were in progress.
/// A store that numbers its writes one by one has none in progress: `(n, n, [])`.
///
/// A snapshot of the log is exact. One that travels with a cached session is
/// [limited](Self::limited).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    xmax: u64,
    /// Ascending, all below `xmax`.
    in_progress: Box<[u64]>,
}

impl Snapshot {
    /// Ids in progress that a [limited](Self::limited) snapshot keeps.
    pub const MAX_IN_PROGRESS: usize = 32;

    /// Returns the snapshot that sees every id below `xmax` but those of `in_progress`, in any
    /// order.
    pub fn new(xmax: u64, in_progress: impl IntoIterator<Item = u64>) -> Self {
        let mut ids: Vec<u64> = in_progress.into_iter().filter(|id| *id < xmax).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { xmax, in_progress: ids.into() }
    }

    /// Keeps at most [`MAX_IN_PROGRESS`](Self::MAX_IN_PROGRESS) ids in progress. With more, `xmax`
    /// is lowered to the first that is left out, so the snapshot claims to see less than it did,
    /// never more; and transactions that stay open, whose ids are low, are kept exactly.
    #[must_use]
    pub fn limited(self) -> Self {
        let Some(first_left_out) = self.in_progress.get(Self::MAX_IN_PROGRESS).copied() else {
            return self;
        };
        Self { xmax: first_left_out, in_progress: self.in_progress[..Self::MAX_IN_PROGRESS].into() }
    }

    /// Returns the snapshot that sees exactly the ids below `xmax`.
    pub fn below(xmax: u64) -> Self {
        Self::new(xmax, [])
    }

    /// Reads PostgreSQL's text form, `xmin:xmax:xip_list`; `None` if `text` is no such thing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let xmin = parts.next()?;
        let xmax = parts.next()?;
        let in_progress = parts.next()?;
        let (xmin, xmax): (u64, u64) = (xmin.parse().ok()?, xmax.parse().ok()?);
        let ids = in_progress.split(',').filter(|id| !id.is_empty()).map(str::parse::<u64>);
        let ids = ids.collect::<Result<Vec<_>, _>>().ok()?;
        let is_whole = parts.next().is_none()
            && xmin <= xmax
            && ids.iter().all(|id| (xmin..xmax).contains(id));
        is_whole.then(|| Self::new(xmax, ids))
    }

    /// Returns the id below which every transaction is visible.
    pub fn xmin(&self) -> u64 {
        self.in_progress.first().copied().unwrap_or(self.xmax)
    }

    /// Returns the id from which on no transaction is visible.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Returns the ids below [`xmax`](Self::xmax) that are not visible, ascending.
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Returns whether the transaction of this id is visible.
    pub fn sees(&self, id: u64) -> bool {
        id < self.xmax && !self.in_progress.contains(&id)
    }

    /// Returns whether every id from `oldest` to `newest` is visible, both included.
    pub fn sees_all(&self, oldest: u64, newest: u64) -> bool {
        newest < self.xmax && !self.in_progress.iter().any(|id| (oldest..=newest).contains(id))
    }

    /// Returns whether everything that `other` sees is visible.
    pub fn covers(&self, other: &Self) -> bool {
        self.xmax >= other.xmax && !self.in_progress.iter().any(|id| other.sees(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_sees_what_was_committed_and_nothing_else() {
        let snapshot = Snapshot::new(20, [15, 12]);
        assert_eq!(
            (snapshot.xmin(), snapshot.xmax(), snapshot.in_progress()),
            (12, 20, &[12, 15][..])
        );
        let seen: Vec<_> = (10..22).filter(|id| snapshot.sees(*id)).collect();
        assert_eq!(seen, [10, 11, 13, 14, 16, 17, 18, 19]);
        assert!(snapshot.sees_all(13, 14) && snapshot.sees_all(16, 19) && snapshot.sees_all(0, 11));
        for (oldest, newest) in [(12, 12), (11, 13), (15, 15), (14, 19), (19, 20), (20, 20)] {
            assert!(!snapshot.sees_all(oldest, newest), "{oldest} to {newest}");
        }
    }

    #[test]
    fn snapshot_covers_another_that_sees_no_more() {
        let one = Snapshot::new(20, [12]);
        for (other, covers) in [
            (Snapshot::new(20, [12]), true),
            (Snapshot::new(20, [12, 15]), true),
            (Snapshot::new(15, [12]), true),
            (Snapshot::below(12), true),
            (Snapshot::below(13), false),
            (Snapshot::below(20), false),
            (Snapshot::new(21, [12]), false),
            (Snapshot::default(), true),
        ] {
            assert_eq!(one.covers(&other), covers, "{other:?}");
        }
    }

    /// However many transactions are in progress, a snapshot never claims to see one that it did
    /// not.
    #[test]
    fn limited_snapshot_of_many_transactions_in_progress_claims_to_see_less_never_more() {
        let exact = Snapshot::new(1000, (10..100).chain([3]));
        let busy = exact.clone().limited();
        assert_eq!(
            (busy.xmin(), busy.xmax(), busy.in_progress().len()),
            (3, 41, Snapshot::MAX_IN_PROGRESS)
        );
        let seen: Vec<_> = (0..1100).filter(|id| busy.sees(*id)).collect();
        assert_eq!(seen, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(exact.covers(&busy) && !busy.covers(&exact) && exact.sees(500));
        let few = Snapshot::new(1000, 1..=Snapshot::MAX_IN_PROGRESS as u64);
        assert_eq!(few.clone().limited(), few);
    }

    #[test]
    fn text_of_postgresql_is_read_and_nothing_else() {
        assert_eq!(Snapshot::parse("10:10:"), Some(Snapshot::below(10)));
        assert_eq!(Snapshot::parse("10:20:10,14,15"), Some(Snapshot::new(20, [10, 14, 15])));
        for text in [
            "", "10", "10:20", "10:20:9", "10:20:20", "20:10:", "10:20:1x", "10:20::", "-1:2:",
            "a:b:c",
        ] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }
}
