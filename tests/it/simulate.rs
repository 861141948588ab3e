//! `postern simulate` in every dialect.
