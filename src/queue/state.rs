//! The pure part of the queue.
