//! The operators' search. It examines a bounded number of rows in the order of an index, so that
//! the time of a page depends neither on how many sessions there are, nor on how few match.

use domain::SessionStatus;
use domain::ports::{SessionFilter, SessionSearch};
use sea_orm::Value;
use sea_orm::entity::prelude::IpNetwork;

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
        format!("${}", self.values.len())
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
    let max_examined = statement.value(i64::from(search.max_examined));
    let limit = statement.value(i64::from(search.limit));
    let order = "ORDER BY created_at DESC, id DESC LIMIT";
    let rows = |which: &str| {
        format!(
            "(SELECT id, created_at, {matches} AS matches FROM sessions WHERE {range} AND {which} \
                {order} {max_examined})"
        )
    };
    let rows = match filter.ip_address {
        None => rows("true"),
        // Two indexes, each in the order of the search.
        Some(address) => {
            let address = statement.value(IpNetwork::from(address));
            let at_sign_in = rows(&format!("ip_address = {address}"));
            let last = rows(&format!(
                "last_ip_address = {address} AND last_ip_address IS DISTINCT FROM ip_address"
            ));
            format!(
                "(SELECT * FROM ({at_sign_in} UNION ALL {last}) AS both_addresses {order} \
                {max_examined})"
            )
        }
    };
    let sql = format!(
        "WITH examined AS MATERIALIZED {rows},
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
        conditions.push(format!("created_at >= {}", statement.value(*at)));
    }
    if let Some(at) = created_before {
        conditions.push(format!("created_at < {}", statement.value(*at)));
    }
    if let Some(position) = search.after {
        let created_at = statement.value(position.created_at);
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
        let now = statement.value(search.now);
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
        // The collation "C" folds ASCII letters only, in every database.
        conditions.push(format!(
            "(strpos(lower(coalesce(device_info, '') COLLATE \"C\"), {device}) > 0 OR \
                coalesce(device_type = {device}, false))"
        ));
    }
    if let Some(at) = active_after {
        conditions.push(format!("last_activity_at >= {}", statement.value(*at)));
    }
    all(conditions)
}

fn all(conditions: Vec<String>) -> String {
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
}
