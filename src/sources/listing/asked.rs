//! Pure: when the page was asked for in which a key stands, or would stand.
//!
//! What a listing shows is compared with pushes by that time. A walk may take hours, and what is gone is told at its end: the walk's
//! beginning would let a push of a change before the page hide that the object went after it.

use crate::clock::UnixMillis;

/// Pages that are remembered; a walk of more remembers every second one, and then every fourth.
const PAGES: usize = 64;

/// When the pages of one walk were asked for, in bounded memory.
#[derive(Debug)]
pub(super) struct Asked {
    began: UnixMillis,
    /// The key after which a page begins, and when it was asked for; ascending.
    pages: Vec<(String, UnixMillis)>,
    /// Of how many pages one is remembered, and how many were not since the last.
    every: u32,
    skipped: u32,
}

impl Asked {
    /// A walk that began then.
    pub(super) fn since(began: UnixMillis) -> Self {
        Self { began, pages: Vec::new(), every: 1, skipped: 0 }
    }

    /// The page after the key `after` is asked for `now`.
    pub(super) fn page(&mut self, after: &str, now: UnixMillis) {
        self.skipped += 1;
        if self.skipped < self.every {
            return;
        }
        self.skipped = 0;
        if self.pages.len() >= PAGES {
            let mut at = 0;
            self.pages.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.every = self.every.saturating_mul(2);
        }
        self.pages.push((after.to_owned(), now));
    }

    /// When the page of `key` was asked for, or an earlier one; when the walk began, where that was before a restart. A clock that
    /// was set back does not make a page older than its walk.
    pub(super) fn at(&self, key: &str) -> UnixMillis {
        let after = self.pages.partition_point(|(after, _)| after.as_str() < key);
        let page = after.checked_sub(1).and_then(|at| self.pages.get(at));
        page.map_or(self.began, |(_, asked)| (*asked).max(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_was_asked_for_with_its_page_or_where_that_is_forgotten_with_one_before_it() {
        let mut asked = Asked::since(UnixMillis(10));
        assert_eq!(asked.at("a"), UnixMillis(10));
        // A restart: the walk goes on after "b".
        asked.page("b", UnixMillis(100));
        asked.page("d", UnixMillis(200));
        assert_eq!(["a", "b", "c", "d", "e"].map(|key| asked.at(key).0), [10, 10, 100, 100, 200]);
        asked.page("e", UnixMillis(5));
        assert_eq!(asked.at("f"), UnixMillis(10), "set back");
        let mut asked = Asked::since(UnixMillis(0));
        for n in 0..100_000 {
            asked.page(&format!("{n:06}"), UnixMillis(n));
            assert!(asked.pages.len() <= PAGES);
        }
        for n in [0, 1, 500, 77_777, 99_999] {
            let at = asked.at(&format!("{n:06} "));
            assert!(at.0 <= n && n - at.0 < 100_000 / 16, "{n} {at:?}");
        }
    }
}
