//! The report of the one node of a SQLite file.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::ports::{NodeDirectory, NodeReport, PortError, REPORT_RETENTION};
use uuid::Uuid;

/// [`NodeDirectory`] in the memory of this process: no other process can use the file, so no other
/// node is to see the report.
#[derive(Default)]
pub struct SqliteNodeDirectory {
    reports: Mutex<Vec<(NodeReport, Instant)>>,
}

impl SqliteNodeDirectory {
    /// No method panics while it holds them.
    fn reports(&self) -> MutexGuard<'_, Vec<(NodeReport, Instant)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeDirectory for SqliteNodeDirectory {
    async fn report(&self, report: &NodeReport) -> Result<(), PortError> {
        let mut reports = self.reports();
        reports.retain(|(other, reported)| {
            other.node != report.node && reported.elapsed() <= REPORT_RETENTION
        });
        reports.push((report.clone(), Instant::now()));
        reports.sort_by_key(|(report, _)| (report.started_at, report.node));
        Ok(())
    }

    async fn reports(&self) -> Result<Vec<(NodeReport, Duration)>, PortError> {
        let reports = self.reports();
        Ok(reports.iter().map(|(report, at)| (report.clone(), at.elapsed())).collect())
    }

    async fn leave(&self, node: Uuid) -> Result<(), PortError> {
        self.reports().retain(|(report, _)| report.node != node);
        Ok(())
    }
}
