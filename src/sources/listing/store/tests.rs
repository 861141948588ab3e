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
