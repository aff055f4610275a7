//! What the errors of sea-orm and sqlx mean to the caller of a port.

use std::io::ErrorKind;

use domain::ports::PortError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// Returns whether the connection is gone, rather than the statement wrong.
pub(crate) fn connection_broke(error: &DbErr) -> bool {
    let Some(error) = driver_error(error) else { return false };
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Class 57P: the server closed the connection (admin_shutdown, crash_shutdown,
        // cannot_connect_now, ...).
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Returns whether a statement that was to change something may have done so, though this is how it
/// failed with: the connection was lost while the server had it. Not so where there was no
/// connection to begin with, or where the server said why not.
pub(crate) fn outcome_unknown(error: &DbErr) -> bool {
    let refused = |kind| matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::NotFound);
    connection_broke(error)
        && !matches!(driver_error(error), Some(sqlx::Error::Io(error)) if refused(error.kind()))
}

fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

pub(crate) fn port_error(error: DbErr) -> PortError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return PortError::conflict(error);
    }
    match &error {
        DbErr::Type(_) | DbErr::Json(_) => PortError::corrupt(error),
        DbErr::Query(RuntimeErr::SqlxError(source))
            if matches!(
                **source,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)
            ) =>
        {
            PortError::corrupt(error)
        }
        _ if is_refused_value(&error) => PortError::corrupt(error),
        _ => PortError::unavailable(error),
    }
}

/// Returns whether the database refuses a value, which no later attempt changes: class 22 (data
/// exception) and class 23 (integrity constraint violation).
fn is_refused_value(error: &DbErr) -> bool {
    let code = driver_error(error).and_then(|error| error.as_database_error()?.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
