//! From a verified notification to the queue.
