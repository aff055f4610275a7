//! Why a call to a port failed.

use std::error::Error;
use std::sync::Arc;

use thiserror::Error;

type Source = Box<dyn Error + Send + Sync>;

/// Why a port could not do what it was asked to. Absence is no error: it is an `Option`.
///
/// The source is for the log. It is never shown to a caller: it may name hosts, statements or
/// values.
#[derive(Debug, Error)]
pub enum PortError {
    /// What was to be written exists already.
    #[error("the record exists already")]
    Conflict(#[source] Source),
    /// The dependency did not respond in time, or refused: nothing was changed. Trying again later
    /// can help.
    #[error("a dependency is unavailable")]
    Unavailable(#[source] Source),
    /// The store did not report whether it carried out the change. Repeating it is safe, and shows
    /// it.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Source),
    /// What was read breaks the rules of the domain. Trying again does not help.
    #[error("a stored record is corrupt")]
    Corrupt(#[source] Source),
}

impl PortError {
    /// Creates a [`PortError::Conflict`] from an error of the library.
    pub fn conflict(source: impl Into<Source>) -> Self {
        Self::Conflict(source.into())
    }

    /// Creates a [`PortError::Unavailable`] from an error of the library.
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::Unavailable(source.into())
    }

    /// Creates a [`PortError::OutcomeUnknown`] from an error of the library.
    pub fn outcome_unknown(source: impl Into<Source>) -> Self {
        Self::OutcomeUnknown(source.into())
    }

    /// Returns the error for each of several callers that waited for one read.
    pub fn shared(error: Arc<Self>) -> Self {
        match *error {
            Self::Corrupt(_) => Self::corrupt(error),
            _ => Self::unavailable(error),
        }
    }

    /// Creates a [`PortError::Corrupt`]; the source should name table, column and row.
    pub fn corrupt(source: impl Into<Source>) -> Self {
        Self::Corrupt(source.into())
    }
}
