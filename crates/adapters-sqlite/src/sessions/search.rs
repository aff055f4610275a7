//! The operators' search. It examines a bounded number of rows in the order of an index, so that
//! the time of a page depends neither on how many sessions there are, nor on how few match.

use domain::SessionStatus;
use domain::ports::{SessionFilter, SessionSearch};
use sea_orm::Value;

use crate::sessions::row::COLUMNS;

/// A statement while it is put together.
#[derive(Default)]
struct Statement {
    values: Vec<Value>,
}

impl Statement {
    /// Adds a value, and returns its placeholder.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }
}

/// Returns the statement of a search. Its rows have [`COLUMNS`], all null in a row without a
/// session, and `examined_count`, `last_created_at` and `last_id`: how many rows were examined, and
/// the last of them.
pub(super) fn search_sql(search: &SessionSearch) -> (String, Vec<Value>) {
    let SessionSearch { filter, .. } = search;
    let mut statement = Statement::default();
    let range = range(&mut statement, search);
    let matches = matches(&mut statement, search);
    let max_examined = statement.value(search.max_examined);
    let limit = statement.value(search.limit);
    let order = "ORDER BY created_at DESC, id DESC LIMIT";
    let rows = |which: &str| {
        format!(
            "SELECT * FROM (SELECT id, created_at, {matches} AS matches FROM sessions \
                WHERE {range} AND {which} {order} {max_examined})"
        )
    };
    let rows = match filter.ip_address {
        None => rows("true"),
        // Two indexes, each in the order of the search.
        Some(address) => {
            let address = statement.value(address.to_string());
            let at_sign_in = rows(&format!("ip_address = {address}"));
            let last =
                rows(&format!("last_ip_address = {address} AND last_ip_address IS NOT ip_address"));
            format!("SELECT * FROM ({at_sign_in} UNION ALL {last}) {order} {max_examined}")
        }
    };
    let sql = format!(
        "WITH examined AS MATERIALIZED ({rows}),
        found AS (SELECT id FROM examined WHERE matches {order} {limit})
        SELECT examined_count, last_created_at, last_id, {COLUMNS}
        FROM (SELECT
            (SELECT count(*) FROM examined) AS examined_count,
            (SELECT created_at FROM examined ORDER BY created_at, id LIMIT 1) AS last_created_at,
            (SELECT id FROM examined ORDER BY created_at, id LIMIT 1) AS last_id
        ) AS bounds
        LEFT JOIN (SELECT * FROM sessions WHERE id IN (SELECT id FROM found)) AS page ON true
        ORDER BY created_at DESC, id DESC"
    );
    (sql, statement.values)
}

/// Returns the condition that the index of the search is read by.
fn range(statement: &mut Statement, search: &SessionSearch) -> String {
    let SessionFilter { user_id, created_after, created_before, .. } = &search.filter;
    let mut conditions = Vec::new();
    if let Some(user_id) = user_id {
        conditions.push(format!("user_id = {}", statement.value(user_id.0)));
    }
    if let Some(at) = created_after {
        conditions.push(format!("created_at >= {}", statement.value(at.timestamp_micros())));
    }
    if let Some(at) = created_before {
        conditions.push(format!("created_at < {}", statement.value(at.timestamp_micros())));
    }
    if let Some(position) = search.after {
        let created_at = statement.value(position.created_at.timestamp_micros());
        let id = statement.value(position.id.0);
        conditions.push(format!("(created_at, id) < ({created_at}, {id})"));
    }
    all(conditions)
}

/// Returns the condition of an examined row: [`SessionFilter::matches`] in SQL.
fn matches(statement: &mut Statement, search: &SessionSearch) -> String {
    let SessionFilter { status, device, active_after, .. } = &search.filter;
    let mut conditions = Vec::new();
    if let Some(status) = status {
        let now = statement.value(search.now.timestamp_micros());
        conditions.push(match status {
            SessionStatus::Live => format!("revoked_at IS NULL AND ends_at > {now}"),
            SessionStatus::Revoked => "revoked_at IS NOT NULL".to_owned(),
            SessionStatus::Expired => format!("revoked_at IS NULL AND expires_at <= {now}"),
            SessionStatus::Idle => {
                format!("revoked_at IS NULL AND ends_at <= {now} AND expires_at > {now}")
            }
        });
    }
    if let Some(device) = device {
        let device = statement.value(device.to_ascii_lowercase());
        // SQLite's `lower` folds ASCII letters only.
        conditions.push(format!(
            "(instr(lower(coalesce(device_info, '')), {device}) > 0 OR \
                coalesce(device_type = {device}, false))"
        ));
    }
    if let Some(at) = active_after {
        conditions.push(format!("last_activity_at >= {}", statement.value(at.timestamp_micros())));
    }
    all(conditions)
}

fn all(conditions: Vec<String>) -> String {
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
}
