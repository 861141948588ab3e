//! `postern demo`.
