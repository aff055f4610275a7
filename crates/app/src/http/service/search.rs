//! The operators' search over all users' sessions.

use std::net::IpAddr;

use application::queries::SearchSessions;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::ports::{ListPosition, SessionFilter};
use domain::{SessionStatus, UserId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::ServiceState;
use crate::http::wire::fields::{DevicePart, Text};
use crate::http::wire::parameters::Parameters;
use crate::http::wire::problem::Problem;
use crate::http::wire::schemas;
use crate::http::wire::session_list::{FoundBody, found_response, search_page_size};

/// The parameters of a search. Each narrows it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParameters {
    /// Only this user's sessions.
    #[param(
        value_type = Option<String>,
        pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
    )]
    user_id: Option<Text<UserId>>,
    /// Only sessions of this status.
    #[param(schema_with = schemas::status)]
    status: Option<Text<SessionStatus>>,
    /// Only those from this address, at sign-in or at the last activity.
    #[param(value_type = Option<String>, example = "192.0.2.7")]
    ip: Option<Text<IpAddr>>,
    /// Only those on such a device: a part of `device_info`, or the type, in either case.
    #[param(value_type = Option<String>, max_length = 64, example = "iOS")]
    device: Option<Text<DevicePart>>,
    /// Created at this time, or later.
    #[param(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Text<DateTime<Utc>>>,
    /// Created before this time.
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Text<DateTime<Utc>>>,
    /// Last active at this time, or later.
    #[param(value_type = Option<DateTime<Utc>>)]
    active_after: Option<Text<DateTime<Utc>>>,
    /// The size of the page, 50 if it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<Text<u64>>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{48})?$")]
    cursor: Option<Text<ListPosition>>,
}

/// Which sessions to revoke: those of a search, by the same names.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterBody {
    #[schema(value_type = Option<Uuid>)]
    user_id: Option<Text<UserId>>,
    #[schema(schema_with = schemas::status)]
    status: Option<Text<SessionStatus>>,
    #[schema(value_type = Option<String>)]
    ip: Option<Text<IpAddr>>,
    #[schema(value_type = Option<String>, max_length = 64)]
    device: Option<Text<DevicePart>>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Text<DateTime<Utc>>>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Text<DateTime<Utc>>>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    active_after: Option<Text<DateTime<Utc>>>,
}

impl FilterBody {
    /// Returns the filter.
    ///
    /// # Errors
    /// 400 if it has no field: `all` says that all sessions are meant.
    pub(crate) fn into_filter(self) -> Result<SessionFilter, Problem> {
        let filter = SessionFilter {
            user_id: self.user_id.map(|Text(id)| id),
            status: self.status.map(|Text(status)| status),
            ip_address: self.ip.map(|Text(address)| address),
            device: self.device.map(|Text(DevicePart(device))| device),
            created_after: self.created_after.map(|Text(at)| at),
            created_before: self.created_before.map(|Text(at)| at),
            active_after: self.active_after.map(|Text(at)| at),
        };
        if filter == SessionFilter::default() {
            let message = "must have a field; or say `\"all\": true`";
            return Err(Problem::invalid_request("filter", message));
        }
        Ok(filter)
    }
}

/// Searches the sessions of all users, newest first, page by page. A page may have fewer sessions
/// than its limit, or none, and still have a `next_cursor`: one request examines 10000 sessions at
/// most.
#[utoipa::path(
    get,
    path = "/service/v1/sessions",
    operation_id = "search_sessions",
    tag = "operators",
    params(SearchParameters),
    responses((status = 200, description = "A page of sessions", body = FoundBody))
)]
pub(super) async fn search_sessions(
    State(state): State<ServiceState>,
    Parameters(parameters): Parameters<SearchParameters>,
) -> Result<Response, Problem> {
    let filter = SessionFilter {
        user_id: parameters.user_id.map(|Text(id)| id),
        status: parameters.status.map(|Text(status)| status),
        ip_address: parameters.ip.map(|Text(address)| address),
        device: parameters.device.map(|Text(DevicePart(device))| device),
        created_after: parameters.created_after.map(|Text(at)| at),
        created_before: parameters.created_before.map(|Text(at)| at),
        active_after: parameters.active_after.map(|Text(at)| at),
    };
    let limit = search_page_size(parameters.limit)?;
    let after = parameters.cursor.map(|Text(position)| position);
    let query = SearchSessions { filter, limit, after };
    let found = state.application.search_sessions.handle(query).await?;
    Ok(found_response(&found))
}
