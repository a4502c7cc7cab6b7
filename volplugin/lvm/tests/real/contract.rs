//! What is true of LVM whichever way it is run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use dockline_lvm::{Command, LvmError, Way};
use dockline_types::ByteSize;

use crate::support::{LONG, Place, Tested, helper};

/// Each test is run both ways.
macro_rules! contract {
    ($($name:ident)*) => {
        mod library {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let place = Place::new().await;
                super::$name(Tested { place: &place, lvm: place.lvm(&helper()) }).await;
            })*
        }
        mod program {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let place = Place::new().await;
                let way = Way::Program("lvm".into());
                super::$name(Tested { place: &place, lvm: place.lvm(&way) }).await;
            })*
        }
    };
}

contract! {
    a_volume_is_made_tagged_grown_and_removed
    a_refusal_says_why_and_the_next_answer_is_its_own
    rows_of_any_length_are_read_whole
    a_group_that_is_missing_or_exported_is_seen_as_such
    what_others_change_is_seen
    a_command_that_hangs_is_unknown_and_those_behind_it_are_not_begun
    words_that_would_be_changed_are_refused
}

async fn a_volume_is_made_tagged_grown_and_removed(lvm: Tested<'_>) {
    lvm.run(lvm.place.create("x")).await.unwrap();
    let made = lvm.volume("x").await.unwrap();
    assert_eq!(
        (made.size, made.tags.as_slice()),
        (ByteSize::from_mib(8), &["dockline=1".into()][..])
    );
    let free = |picture: dockline_lvm::Picture| picture.groups[&lvm.place.group].free;
    let before = free(lvm.picture().await);

    let tags = ["--deltag", "dockline=1", "--addtag", "a:b=c/d", "--addtag", "e_f.g-h"];
    lvm.run(Command::new("lvchange").args(tags).arg(lvm.path("x"))).await.unwrap();
    lvm.run(Command::new("lvextend").args(["-L", "12m"]).arg(lvm.path("x"))).await.unwrap();
    let mut grown = lvm.volume("x").await.unwrap();
    grown.tags.sort();
    assert_eq!(grown.tags, ["a:b=c/d", "e_f.g-h"]);
    assert_eq!((grown.size, &grown.uuid), (ByteSize::from_mib(12), &made.uuid));
    let taken = before.bytes() - free(lvm.picture().await).bytes();
    assert_eq!(ByteSize::from_bytes(taken), ByteSize::from_mib(4));

    lvm.run(Command::new("lvremove").arg("-y").arg(lvm.path("x"))).await.unwrap();
    assert_eq!(lvm.volume("x").await, None);
}

async fn a_refusal_says_why_and_the_next_answer_is_its_own(lvm: Tested<'_>) {
    let error = lvm.run(Command::new("lvremove").arg("-y").arg(lvm.path("none"))).await;
    let error = error.unwrap_err();
    assert!(matches!(error, LvmError::Refused { .. }) && !error.is_unknown(), "{error:?}");
    assert!(error.to_string().contains("Failed to find logical volume"), "{error}");
    let answer =
        lvm.run(Command::new("vgs").args(["--noheadings", "-o", "vg_name"])).await.unwrap();
    assert!(answer.printed.iter().any(|line| line.trim() == lvm.place.group), "{answer:?}");
    assert!(!answer.errors.iter().any(|line| line.contains("none")), "{answer:?}");

    let huge = Command::new("lvcreate").args(["-y", "-L", "9t", "-n", "x"]).arg(&lvm.place.group);
    let error = lvm.run(huge).await.unwrap_err().to_string();
    assert!(error.contains("insufficient free space"), "{error}");
    assert!(lvm.run(Command::new("no-such-command")).await.is_err());
    assert!(lvm.run(Command::new("lvs").arg("--no-such-option")).await.is_err());
}

async fn rows_of_any_length_are_read_whole(lvm: Tested<'_>) {
    lvm.run(lvm.place.create("x")).await.unwrap();
    let tags: Vec<String> = (0..6).map(|tag| format!("{tag}{}", "t".repeat(1000))).collect();
    for tag in &tags {
        lvm.run(Command::new("lvchange").args(["--addtag", tag]).arg(lvm.path("x"))).await.unwrap();
    }
    let found = lvm.volume("x").await.unwrap().tags;
    assert!(tags.iter().all(|tag| found.contains(tag)), "{} tags", found.len());
}

async fn a_group_that_is_missing_or_exported_is_seen_as_such(lvm: Tested<'_>) {
    let groups = ["missing".to_owned(), lvm.place.group.clone()];
    let picture = lvm.lvm.picture(&groups, LONG).await.unwrap();
    assert_eq!(picture.groups.keys().collect::<Vec<_>>(), [&lvm.place.group]);
    assert!(!picture.groups[&lvm.place.group].exported);
    lvm.run(Command::new("vgexport").arg(&lvm.place.group)).await.unwrap();
    let picture = lvm.lvm.picture(&groups, LONG).await.unwrap();
    assert!(picture.groups.get(&lvm.place.group).is_none_or(|group| group.exported));
    assert!(lvm.run(lvm.place.create("x")).await.is_err());
}

async fn what_others_change_is_seen(lvm: Tested<'_>) {
    assert_eq!(lvm.volume("y").await, None);
    let other = lvm.place.lvm(&Way::Program("lvm".into()));
    other.run(lvm.place.create("y"), LONG).await.unwrap();
    assert!(lvm.volume("y").await.is_some());
}

async fn a_command_that_hangs_is_unknown_and_those_behind_it_are_not_begun(lvm: Tested<'_>) {
    // The helper is there before the lock is taken.
    lvm.picture().await;
    let lock = lvm.place.hold_lock();
    let short = Duration::from_millis(500);
    let hanging = lvm.lvm.run(lvm.place.create("x"), short).await.unwrap_err();
    assert!(matches!(hanging, LvmError::TimedOut { .. }) && hanging.is_unknown(), "{hanging:?}");
    let behind = lvm.lvm.run(lvm.place.create("y"), short).await.unwrap_err();
    assert!(matches!(&behind, LvmError::Busy { with, .. } if with.contains("-n x")), "{behind:?}");
    drop(lock);
    // The picture is asked for after both, so it shows what became of them.
    assert!(lvm.volume("x").await.is_some(), "it went on");
    assert!(lvm.volume("y").await.is_none(), "it was never begun");
}

async fn words_that_would_be_changed_are_refused(lvm: Tested<'_>) {
    lvm.run(lvm.place.create("x")).await.unwrap();
    for tag in ["#comment", "two words", "\"quoted\""] {
        let change = Command::new("lvchange").args(["--addtag", tag]).arg(lvm.path("x"));
        assert!(matches!(lvm.run(change).await, Err(LvmError::Malformed(_))), "{tag}");
    }
    let most = Command::new("lvs").args(vec!["-v"; 61]).arg(lvm.path("x"));
    lvm.run(most.clone()).await.unwrap();
    assert!(matches!(lvm.run(most.arg("-v")).await, Err(LvmError::Malformed(_))));
}
