//! `postern doctor`, against the real binary.
