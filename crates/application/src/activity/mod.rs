//! Activity of sessions: recorded in memory, written to the store in batches.

mod activity_buffer;
mod activity_writer;

pub use activity_buffer::ActivityBuffer;
pub use activity_writer::ActivityWriter;
