//! [`LocationEnricher`](domain::ports::LocationEnricher) on a local file in the MaxMind DB format:
//! GeoLite2, GeoIP2, DB-IP, or one of your own.

mod maxmind_location_enricher;

pub use maxmind_location_enricher::{MaxMindLocationEnricher, OpenError};
