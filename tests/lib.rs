//! Tests of the whole; there is nothing here but them.
