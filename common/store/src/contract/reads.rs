//! Reads.

use super::{Space, get, pages, put, write};
use crate::{Key, Op, Prefix, Scan, Store};

/// Whatever was answered is seen by the next read, in key order and only under the prefix.
pub async fn gets_and_scans_see_what_was_answered<S: Store>(store: &S, space: &Space) {
    assert_eq!(get(store, space.key("nothing")).await, None);
    let empty = pages(store, space.prefix(), 10).await;
    assert_eq!(empty.len(), 1, "an empty scan has one page, which tells the revision");
    assert!(empty[0].entries.is_empty());

    let inner = |name: &str| space.key(format!("p/{name}"));
    let wanted: Vec<Key> = ["", "a", "a/b", "b", "\u{7f}"].into_iter().map(inner).collect();
    let around = [space.key("o"), space.key("p"), space.key("p0"), space.key("q")];
    let ops = wanted.iter().rev().chain(&around).map(|key| put(key.clone(), 1)).collect();
    let revision = write(store, ops).await;
    let prefix = Prefix::new(space.key("p/").as_bytes()).expect("a short prefix");
    for size in 1..=6 {
        let pages = pages(store, prefix.clone(), size).await;
        let found: Vec<Key> =
            pages.iter().flat_map(|page| &page.entries).map(|entry| entry.key.clone()).collect();
        assert_eq!(found, wanted, "pages of {size}");
        assert!(pages.iter().all(|page| page.entries.len() <= size));
        assert!(pages.iter().all(|page| page.revision >= revision));
    }
    assert!(store.revision().await.expect("an answer") >= revision);
}

/// What is written while a scan runs does not show in it.
pub async fn a_scan_shows_one_moment_page_by_page<S: Store>(store: &S, space: &Space) {
    let keys: Vec<Key> = (0..30).map(|at| space.key(format!("{at:02}"))).collect();
    let before = write(store, keys.iter().map(|key| put(key.clone(), "old")).collect()).await;
    let mut scan = store.scan(space.prefix(), 7);
    let mut page = scan.next().await.expect("the scan goes on").expect("the first page");
    let revision = page.revision;
    assert!(revision >= before);
    let mut found = Vec::new();
    loop {
        assert_eq!(page.revision, revision, "all pages are of one revision");
        found.append(&mut page.entries);
        // Ahead of the scan and behind it: change, remove, add.
        write(store, vec![put(keys[29].clone(), "new"), Op::Delete(keys[28].clone())]).await;
        write(store, vec![put(space.key("05a"), "new"), put(space.key("29a"), "new")]).await;
        match scan.next().await.expect("the scan goes on") {
            Some(next) => page = next,
            None => break,
        }
    }
    let seen: Vec<&Key> = found.iter().map(|entry| &entry.key).collect();
    assert_eq!(seen, keys.iter().collect::<Vec<_>>());
    assert!(found.iter().all(|entry| entry.mod_revision == before));
}
