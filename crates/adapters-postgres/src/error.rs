use domain::ports::PortError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// Whether the connection is gone, rather than the statement wrong.
pub(crate) fn connection_broke(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    match &**error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Class 57P: the server ended the connection (admin_shutdown, crash_shutdown, cannot_connect_now, ...).
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

pub(crate) fn port_error(error: DbErr) -> PortError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return PortError::conflict(error);
    }
    match &error {
        DbErr::Type(_) | DbErr::Json(_) => PortError::corrupt(error),
        DbErr::Query(RuntimeErr::SqlxError(source))
            if matches!(**source, sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)) =>
        {
            PortError::corrupt(error)
        }
        _ => PortError::unavailable(error),
    }
}
