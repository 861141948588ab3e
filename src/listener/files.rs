//! Open files: each connection is one, and so are the store, its readers, and every callback that is under way.
//!
//! Strangers must not use up what delivering needs. Many systems still allow 1,024 files by default, which is exactly what the
//! listener alone would take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept for the store, attempts in flight, the admin listener, and certificate fetches.
const RESERVED: u64 = 512;

/// How many of `connections` may be open at once beside everything else. First raises the soft limit of open files as far as the
/// hard one lets it.
pub(super) fn connections_within_limit(connections: usize) -> usize {
    let wanted = RESERVED + connections as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let reachable = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = current.is_some_and(|current| current < reachable)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum }).is_ok();
    let files = if raised { reachable } else { current.unwrap_or(u64::MAX) };
    let fitting = fitting(connections, files);
    if fitting < connections {
        tracing::warn!(
            open_files = files,
            connections = fitting,
            "the limit of open files allows fewer connections than usual; raise it to {wanted} (ulimit -n, LimitNOFILE)"
        );
    }
    fitting
}

/// At least a quarter of the files, so that a very low limit neither closes the door nor lets it take everything.
fn fitting(connections: usize, files: u64) -> usize {
    let left = files.saturating_sub(RESERVED).max(files / 4).max(1);
    usize::try_from(left).map_or(connections, |left| connections.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_delivering() {
        for (files, expected) in
            [(65_536, 1024), (1536, 1024), (1535, 1023), (1024, 512), (600, 150), (256, 64), (0, 1)]
        {
            assert_eq!(fitting(1024, files), expected, "{files} files");
        }
    }
}
