//! [`DeviceEnricher`](domain::ports::DeviceEnricher) on ua-parser, with the data of uap-core
//! (`data/README.md`).

mod ua_parser_device_enricher;

pub use ua_parser_device_enricher::{DataError, UaParserDeviceEnricher};
