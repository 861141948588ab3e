use super::*;
use crate::aws::listing::Entry;

fn entry(key: &str) -> Entry {
    Entry { key: key.to_owned(), e_tag: "e".to_owned(), size: 7, last_modified: Some(UnixMillis(5)) }
}

fn wanted(ranges: &[(&str, &str)]) -> Vec<(String, String)> {
    ranges.iter().map(|(bucket, prefix)| ((*bucket).to_owned(), (*prefix).to_owned())).collect()
}

async fn one(store: &Arc<Snapshots>) -> Range {
    store.ranges("i".into(), wanted(&[("b", "")])).await.expect("a range").remove(0)
}

async fn keys(store: &Arc<Snapshots>, range: &Range) -> Vec<String> {
    store.rows(range, None).await.expect("rows").into_iter().map(|row| row.entry.key).collect()
}

#[tokio::test]
async fn what_is_committed_and_how_far_the_walk_is_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Snapshots::new(folder.path()));
    let mut range = one(&store).await;
    assert_eq!((range.baselined, range.began), (false, None));
    range.began = Some(UnixMillis(9));
    range.position = "é\u{1}".to_owned();
    let order = ["\u{1}", "a", "é", "\u{ffee}", "😀"];
    let puts = order.iter().rev().map(|key| Write::Put(entry(key))).collect();
    store.commit(&range, puts).await.expect("durable");
    store.commit(&range, vec![Write::Missing("a".to_owned(), Some(UnixMillis(9)))]).await.expect("durable");
    drop(store);

    let store = Arc::new(Snapshots::new(folder.path()));
    range.noted = true;
    assert_eq!(one(&store).await, range);
    let from_start = Range { position: String::new(), ..range.clone() };
    assert_eq!(keys(&store, &from_start).await, order, "byte order");
    let rows = store.rows(&from_start, Some("a".to_owned())).await.expect("rows");
    assert_eq!(rows.last().expect("a row"), &Row { entry: entry("a"), missing_since: Some(UnixMillis(9)) });
    assert_eq!(store.missing(&range, UnixMillis(8)).await.expect("rows"), []);
    assert_eq!(store.missing(&range, UnixMillis(9)).await.expect("rows").len(), 1);
    store.forget(&range, vec!["a".to_owned()]).await.expect("durable");
    store.finish(&range).await.expect("durable");
    let range = one(&store).await;
    assert_eq!((range.baselined, range.began, range.position.as_str()), (true, None, ""));
    assert_eq!(keys(&store, &range).await.len(), 4);
}

#[tokio::test]
async fn a_range_that_is_not_configured_any_more_is_forgotten_and_a_new_one_begins_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Snapshots::new(folder.path()));
    let ranges = store.ranges("i".into(), wanted(&[("b", "x/"), ("b", "y/")])).await.expect("ranges");
    for range in &ranges {
        store.commit(range, vec![Write::Put(entry(&format!("{}1", range.prefix)))]).await.expect("durable");
        store.finish(range).await.expect("durable");
    }
    let other = store.ranges("other".into(), wanted(&[("b", "x/")])).await.expect("ranges").remove(0);
    let ranges = store.ranges("i".into(), wanted(&[("b", "y/"), ("b", "z/")])).await.expect("ranges");
    assert_eq!(ranges.iter().map(|range| range.baselined).collect::<Vec<_>>(), [true, false]);
    assert_eq!(keys(&store, &ranges[0]).await, ["y/1"]);
    let again = store.ranges("i".into(), wanted(&[("b", "x/")])).await.expect("ranges").remove(0);
    assert!(!again.baselined && keys(&store, &again).await.is_empty());
    assert_eq!(
        store.ranges("other".into(), wanted(&[("b", "x/")])).await.expect("ranges"),
        [other],
        "another's is another's"
    );
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_nothing_of_it_is_mixed_into_the_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [FILE, "listing.db-wal"] {
        fs::write(folder.path().join(name), vec![0x5a; 8192]).expect("a file");
    }
    let store = Arc::new(Snapshots::new(folder.path()));
    let error = store.ranges("i".into(), wanted(&[("b", "")])).await.expect_err("damage");
    assert_eq!(error, StoreError::Damaged);
    assert!(folder.path().join(DAMAGED).exists());
    let range = one(&store).await;
    store.commit(&range, vec![Write::Put(entry("a"))]).await.expect("a new file");

    // Somebody else finds damage: whoever still holds a range of the old file is told to look again.
    drop(store.blocking(None, |_, _| Err::<(), _>(rusqlite::Error::IntegralValueOutOfRange(0, 0))));
    assert_eq!(store.commit(&range, Vec::new()).await, Err(StoreError::Stale));
    let range = one(&store).await;
    assert!(!range.baselined && keys(&store, &range).await.is_empty());
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let conn = Connection::open(folder.path().join(FILE)).expect("a file");
    conn.pragma_update(None, "user_version", 2).expect("written");
    drop(conn);
    let store = Arc::new(Snapshots::new(folder.path()));
    assert_eq!(store.ranges("i".into(), wanted(&[("b", "")])).await, Err(StoreError::Newer(2)));
    assert!(!folder.path().join(DAMAGED).exists());
}

#[tokio::test]
async fn what_is_listed_for_nobody_any_more_is_taken_out_in_steps_and_its_space_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Snapshots::new(folder.path()));
    store.keep(vec!["a".into()]).await.expect("nothing to forget");
    assert!(!store.tidy().await.expect("nothing to do") && !folder.path().join(FILE).exists());
    let kept = store.ranges("a".into(), wanted(&[("b", "")])).await.expect("a range").remove(0);
    store.commit(&kept, vec![Write::Put(entry("kept"))]).await.expect("durable");
    let gone = store.ranges("removed".into(), wanted(&[("b", ""), ("c", "")])).await.expect("ranges");
    for range in &gone {
        for from in (0..20_000).step_by(1000) {
            let puts = (from..from + 1000).map(|n| Write::Put(entry(&format!("some/longer/key/{n:08}")))).collect();
            store.commit(range, puts).await.expect("durable");
        }
    }
    drop(store);
    let store = Arc::new(Snapshots::new(folder.path()));
    let pages = |name: &'static str| {
        let count =
            move |conn: &mut Connection, _| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        store.with(None, count)
    };
    let before = pages("page_count").await.expect("counted");
    store.keep(vec!["a".into()]).await.expect("forgotten");
    let mut steps = 0;
    while store.tidy().await.expect("a step") {
        steps += 1;
        assert!(steps < 1000);
    }
    let after = pages("page_count").await.expect("counted");
    assert!(steps >= 20 && after < before / 2, "{steps} steps, {before} pages, then {after}");
    assert_eq!(keys(&store, &kept).await, ["kept"]);
    let again = store.ranges("removed".into(), wanted(&[("b", "")])).await.expect("a range").remove(0);
    assert!(!again.baselined && keys(&store, &again).await.is_empty(), "it begins anew");
    assert_eq!(store.ranges("a".into(), wanted(&[("b", "")])).await.expect("a range"), [kept]);
}
