//! One walk through a range of keys, page by page.
//!
//! For each stretch of a page: what it brings is offered to the queue, and when that is durable, what is remembered and the position
//! are. A crash between the two walks the stretch again; its events have the same ids then, and the queue knows them. The walk's
//! beginning is part of those ids, so it is durable before the first offer. Pages without a change are written down only now and
//! then: an unchanged walk of a bucket costs reading.
//!
//! What is missing is told at the walk's end, when all of it was in order.

use std::sync::Arc;
use std::time::Instant;

use super::asked::Asked;
use super::merge::{Row, Step, Walk, Write, merge};
use super::store::{Range, STRETCH, Snapshots, StoreError};
use crate::aws::listing::{self, Entry, From, ListError, Lister, Page};
use crate::clock::{Clock, UnixMillis};
use crate::config::{Instance, ListingConfig, ListingKind};
use crate::event::Origin;
use crate::normalize::{self, Finding, Listed};
use crate::queue::QueueError;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::changes;
use crate::sources::intake::Desk;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::OfInstance;

/// Events in one transaction of the queue: few enough to fit where the queue's bound is small or near.
const OFFERED_AT_ONCE: usize = 100;

/// Pages without a change after which the position is written down all the same.
const QUIET_PAGES: u32 = 64;

/// Pages in a row that hold nothing and promise more, after which that is not believed.
const EMPTY_PAGES: u32 = 1000;

/// Whom a walk asks for pages.
pub(super) trait Pages {
    /// As [`Lister::page`].
    fn page(
        &self,
        bucket: &str,
        prefix: &str,
        from: &From,
        size: u16,
    ) -> impl Future<Output = Result<Page, ListError>> + Send;
}

impl Pages for Lister {
    async fn page(&self, bucket: &str, prefix: &str, from: &From, size: u16) -> Result<Page, ListError> {
        Self::page(self, bucket, prefix, from, size).await
    }
}

/// What walks of one instance share.
pub(super) struct Walker {
    pub(super) instance: Arc<Instance>,
    pub(super) config: ListingConfig,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) desk: Arc<Desk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

/// How a walk ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// At the range's end. Something may be missing that is not told yet.
    Complete {
        /// Whether it is.
        missing: bool,
    },
    /// At the range's end without having seen any key, where there were some. All of it would be told as deleted, which an app may not be
    /// able to take back, so that is left to the next walk, a while later, if that sees none either.
    Emptied,
    /// Before it, because the sidecar ends.
    CutOff,
}

/// Why a walk does not go on for now. The range keeps its position.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Keys do not ascend, byte by byte.
    #[error(
        "bucket {bucket} is not listed in the byte order of its keys (a page goes on with {key:?} after {before:?}): nothing of it can be told \
         by listings; directory buckets and some stores are like that, use push for it"
    )]
    Disorder {
        /// The bucket.
        bucket: String,
        /// The key that comes too late.
        key: String,
        /// The one before.
        before: String,
    },
    /// There is no page.
    #[error(transparent)]
    List(#[from] ListError),
    /// A walk saw nothing, and there is something.
    #[error(
        "bucket {bucket} listed no more key that begins with {prefix:?}, and has some when asked again: nothing is taken for deleted, and the \
         walk begins anew"
    )]
    Flickers {
        /// The bucket.
        bucket: String,
        /// What its keys begin with.
        prefix: String,
    },
    /// A key that was not asked for.
    #[error(
        "bucket {bucket} lists {key:?}, which does not begin with the prefix {prefix:?} that was asked for; the page is not believed"
    )]
    Foreign {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What it should begin with.
        prefix: String,
    },
    /// The queue takes nothing.
    #[error("the queue takes nothing more from the listing of bucket {bucket}, which waits at its position: {cause}")]
    Queue {
        /// The bucket.
        bucket: String,
        /// Why.
        cause: QueueError,
    },
    /// What is remembered cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Trouble {
    /// A word for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Disorder { .. } => "disorder",
            Self::Flickers { .. } | Self::Foreign { .. } => "unreadable",
            Self::List(error) => error.label(),
            Self::Queue { .. } => "queue_refused",
            Self::Store(_) => "store",
        }
    }
}

/// A walk that is under way.
struct Going<'a> {
    walker: &'a Walker,
    range: &'a mut Range,
    walk: Walk,
    quiet: u32,
    listed: u64,
    asked: Asked,
}

impl Walker {
    /// Walks `range` from its position to its end.
    ///
    /// # Errors
    /// [`Trouble`]; `range` then tells where to go on. After [`Trouble::Disorder`] that is its beginning.
    pub(super) async fn walk(
        &self,
        pages: &impl Pages,
        range: &mut Range,
        shutdown: &mut Shutdown,
    ) -> Result<Walked, Trouble> {
        let began = *range.began.get_or_insert_with(|| self.clock.now());
        let walk = Walk {
            kind: self.config.kind,
            grace: self.config.grace,
            began,
            silent: !range.baselined && !self.config.emit_initial,
        };
        let since = Instant::now();
        let mut going = Going { walker: self, range, walk, quiet: 0, listed: 0, asked: Asked::since(began) };
        let walked = going.through(pages, shutdown).await;
        if let Ok(Walked::Complete { .. }) = walked {
            self.metrics.listing_seconds.observe(since.elapsed().as_secs_f64());
        }
        walked
    }
}

impl Going<'_> {
    async fn through(&mut self, pages: &impl Pages, shutdown: &mut Shutdown) -> Result<Walked, Trouble> {
        loop {
            // What goes on after a restart may have nothing left to see, and have seen something before it.
            let whole = self.range.position.is_empty();
            if !self.pages(pages, shutdown).await? {
                return Ok(Walked::CutOff);
            }
            if self.walk.silent || !self.is_emptied().await? {
                break;
            }
            if whole && self.range.emptied {
                tracing::warn!(
                    instance = &*self.walker.instance.name,
                    bucket = self.range.bucket,
                    prefix = self.range.prefix,
                    "the bucket lists no key any more, asked twice; everything that it held is told as deleted"
                );
                break;
            }
            self.begin_anew();
            if whole {
                self.range.emptied = true;
                return Ok(Walked::Emptied);
            }
        }
        while !self.walk.silent && self.tell_gone().await? {
            if shutdown.phase() >= Phase::Leaving {
                return Ok(Walked::CutOff);
            }
        }
        self.finish().await
    }

    /// Goes from the position to the range's end; `false` when the sidecar leaves meanwhile.
    async fn pages(&mut self, pages: &impl Pages, shutdown: &mut Shutdown) -> Result<bool, Trouble> {
        let (bucket, prefix) = (self.range.bucket.clone(), self.range.prefix.clone());
        let mut from = From::After(self.range.position.clone());
        let mut empty = 0;
        loop {
            self.asked.page(&self.range.position, self.walker.clock.now());
            let page = tokio::select! {
                biased;
                () = shutdown.reached(Phase::Leaving) => return Ok(false),
                page = pages.page(&bucket, &prefix, &from, self.walker.config.page_size) => page,
            };
            let page = match (page, &from) {
                // Ceph has no readable page after such a key, at which a stretch may have ended, and other stores have.
                (Err(ListError::Unreadable { unspeakable: true, .. }), From::After(key))
                    if !listing::is_speakable(key) =>
                {
                    self.begin_anew();
                    from = From::After(String::new());
                    continue;
                }
                (page, _) => page?,
            };
            if self.range.emptied && !page.entries.is_empty() {
                self.range.emptied = false;
                self.begin_anew();
                return Err(Trouble::Flickers { bucket, prefix });
            }
            if let Err(trouble) = in_order(self.range, &page.entries) {
                if matches!(trouble, Trouble::Disorder { .. }) {
                    // A store that knows no start-after answers from the beginning, so that is where the next try begins too.
                    self.range.position.clear();
                }
                return Err(trouble);
            }
            self.count(page.entries.len());
            empty = if page.entries.is_empty() { empty + 1 } else { 0 };
            if empty > EMPTY_PAGES {
                let detail = format!("{EMPTY_PAGES} pages in a row are empty and promise more");
                return Err(ListError::Unreadable { bucket, detail, unspeakable: false }.into());
            }
            self.take(page.entries, page.next.is_none()).await?;
            match page.next {
                Some(token) => from = From::Token(token),
                None => return Ok(true),
            }
        }
    }

    /// Goes back to the range's beginning. What is walked again is told under the same ids.
    fn begin_anew(&mut self) {
        self.range.position.clear();
        self.asked = Asked::since(self.walk.began);
    }

    /// Whether this walk saw no key, and something is going to be told as deleted.
    async fn is_emptied(&self) -> Result<bool, Trouble> {
        if self.range.listed {
            return Ok(false);
        }
        let gone = self.walker.snapshots.missing(self.range, self.walk.gone_if_missing_since()).await?;
        Ok(!gone.is_empty())
    }

    fn count(&mut self, keys: usize) {
        self.listed += keys as u64;
        self.range.listed |= keys > 0;
        let labels = OfInstance { instance: self.walker.instance.name.to_string() };
        self.walker.metrics.listing_keys.get_or_create(&labels).inc_by(keys as u64);
    }

    /// A page, against what is remembered up to its last key, or to the range's end when it is the `last`. A page may stand against
    /// far more rows than it has keys, so it is taken in stretches of rows.
    async fn take(&mut self, entries: Vec<Entry>, last: bool) -> Result<(), Trouble> {
        let end = match entries.last() {
            Some(entry) if !last => Some(entry.key.clone()),
            None if !last => return Ok(()),
            _ => None,
        };
        let mut entries = entries.into_iter().peekable();
        loop {
            let rows = self.walker.snapshots.rows(self.range, end.clone()).await?;
            let more = rows.len() == STRETCH;
            let bound = if more { rows.last().map(|row| row.entry.key.clone()) } else { end.clone() };
            let within = |entry: &Entry| bound.as_ref().is_none_or(|bound| entry.key <= *bound);
            let listed: Vec<Entry> = std::iter::from_fn(|| entries.next_if(within)).collect();
            let reached = bound.clone().or_else(|| {
                let keys = [listed.last().map(|entry| &entry.key), rows.last().map(|row| &row.entry.key)];
                keys.into_iter().flatten().max().cloned()
            });
            let step = merge(rows, listed, &self.walk);
            self.apply(step, reached).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// First the news, then what is remembered.
    async fn apply(&mut self, step: Step, reached: Option<String>) -> Result<(), Trouble> {
        if !step.news.is_empty() {
            self.offer(step.news.into_iter().map(|(finding, entry)| (finding, entry, None)).collect()).await?;
        }
        if let Some(reached) = reached {
            self.range.position = reached;
        }
        self.quiet += 1;
        if !step.writes.is_empty() || self.quiet >= QUIET_PAGES {
            self.note(step.writes).await?;
        }
        Ok(())
    }

    async fn note(&mut self, writes: Vec<Write>) -> Result<(), Trouble> {
        self.walker.snapshots.commit(self.range, writes).await?;
        self.range.noted = true;
        self.quiet = 0;
        Ok(())
    }

    /// Tells of objects that are gone; whether there may be more.
    async fn tell_gone(&mut self) -> Result<bool, Trouble> {
        let rows = self.walker.snapshots.missing(self.range, self.walk.gone_if_missing_since()).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let more = rows.len() == STRETCH;
        let keys = rows.iter().map(|row| row.entry.key.clone()).collect();
        let gone = |Row { entry, missing_since }| (Finding::Vanished, entry, missing_since);
        self.offer(rows.into_iter().map(gone).collect()).await?;
        self.walker.snapshots.forget(self.range, keys).await?;
        Ok(more)
    }

    async fn offer(&mut self, news: Vec<(Finding, Entry, Option<UnixMillis>)>) -> Result<(), Trouble> {
        if !self.range.noted {
            self.note(Vec::new()).await?;
        }
        let (walker, walk) = (self.walker, self.walk);
        let instance = &walker.instance;
        let instance_id = instance.id.to_string();
        let mut news = news.into_iter();
        loop {
            let found: Vec<_> = news
                .by_ref()
                .take(OFFERED_AT_ONCE)
                .map(|(finding, entry, missing_since)| {
                    let event = normalize::listed(&Listed {
                        finding,
                        instance_id: &instance_id,
                        origin: match walk.kind {
                            ListingKind::Poll => Origin::Poll,
                            ListingKind::Reconcile => Origin::Reconcile,
                        },
                        bucket: &self.range.bucket,
                        region: instance.region.as_deref(),
                        key: &entry.key,
                        e_tag: &entry.e_tag,
                        size: entry.size,
                        last_modified: entry.last_modified,
                        seen: missing_since.unwrap_or(walk.began),
                        began: walk.began,
                    });
                    let there = finding != Finding::Vanished;
                    let change = (walk.kind == ListingKind::Reconcile).then(|| {
                        let e_tag = there.then_some(entry.e_tag.as_str());
                        let since = if there { entry.last_modified } else { missing_since };
                        let asked = self.asked.at(&entry.key);
                        changes::listed(instance, &self.range.bucket, &entry.key, e_tag, since, asked)
                    });
                    (event, change)
                })
                .collect();
            if found.is_empty() {
                return Ok(());
            }
            let now = walker.clock.now();
            let refused = |cause| Trouble::Queue { bucket: self.range.bucket.clone(), cause };
            walker.desk.offer(instance, found, now).await.map_err(refused)?;
        }
    }

    async fn finish(&mut self) -> Result<Walked, Trouble> {
        let first = !self.range.baselined;
        if self.range.noted || first {
            self.walker.snapshots.finish(self.range).await?;
        }
        if first {
            tracing::info!(
                instance = &*self.walker.instance.name,
                bucket = self.range.bucket,
                prefix = self.range.prefix,
                keys = self.listed,
                silent = self.walk.silent,
                "the first walk is complete; changes are told from now on"
            );
        }
        self.range.baselined = true;
        self.range.began = None;
        (self.range.noted, self.range.listed, self.range.emptied) = (false, false, false);
        self.range.position.clear();
        let missing = match self.walk.kind {
            // What a silent walk missed waits for the next one, and so does nothing else.
            ListingKind::Poll => false,
            ListingKind::Reconcile => {
                !self.walker.snapshots.missing(self.range, UnixMillis(i64::MAX)).await?.is_empty()
            }
        };
        Ok(Walked::Complete { missing })
    }
}

/// Keys must ascend from the position on, byte by byte, and be the range's own.
fn in_order(range: &Range, entries: &[Entry]) -> Result<(), Trouble> {
    let mut before = range.position.as_str();
    for Entry { key, .. } in entries {
        if !key.starts_with(&range.prefix) {
            let (bucket, prefix) = (range.bucket.clone(), range.prefix.clone());
            return Err(Trouble::Foreign { bucket, key: key.clone(), prefix });
        }
        if key.as_str() <= before {
            let bucket = range.bucket.clone();
            return Err(Trouble::Disorder { bucket, key: key.clone(), before: before.to_owned() });
        }
        before = key;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
