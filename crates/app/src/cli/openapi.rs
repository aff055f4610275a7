//! `sessiond openapi`: the API description.

use anyhow::Result;

use super::print;
use crate::http::openapi;

pub(super) fn run() -> Result<()> {
    print(&format!("{}\n", openapi::json()?))
}
