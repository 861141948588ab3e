//! How notifications arrive: one folder or file for each way, all ending in the same [`intake::Desk::accept`].

pub mod intake;
pub mod sns;
