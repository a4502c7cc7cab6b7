//! The rules of the house as tests: arrows between crates, sizes, words, and the map.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use serde_json::Value;

/// The longest a file of code may be, in lines; CONTRIBUTING.md asks for 400.
const LONGEST_FILE: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every crate of the workspace: its folder and what it needs outside of tests.
async fn crates() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let home = |name: &str| std::env::var(name).unwrap_or_default();
    let metadata = Program::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .folder(root())
        .env("HOME", home("HOME"))
        .env("RUSTUP_TOOLCHAIN", home("RUSTUP_TOOLCHAIN"))
        .deadline(Duration::from_secs(60));
    let metadata: Value = serde_json::from_slice(&metadata.run().await.unwrap().stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |package: &Value| {
        let needs = package["dependencies"].as_array().unwrap().iter();
        let needs = needs.filter(|need| need["kind"].is_null()).map(|need| text(&need["name"]));
        let folder = PathBuf::from(text(&package["manifest_path"])).parent().unwrap().to_owned();
        (text(&package["name"]), (folder, needs.collect()))
    };
    metadata["packages"].as_array().unwrap().iter().map(one).collect()
}

async fn files(ending: &str) -> Vec<PathBuf> {
    let listed = Program::new("git").args(["ls-files", "--cached", "--others"]);
    let listed = listed.args(["--exclude-standard", "--", ending]).folder(root());
    let listed = listed.env("HOME", std::env::var("HOME").unwrap_or_default()).run().await.unwrap();
    let files = listed.text().lines().map(|line| root().join(line)).collect::<Vec<_>>();
    files.into_iter().filter(|file| file.exists()).collect()
}

#[tokio::test]
async fn core_crates_do_no_input_or_output() {
    let doing = ["tokio", "nix", "rtnetlink", "redb", "hyper", "hyper-util", "dockline-exec"];
    let mut cores = 0;
    for (name, (_, needs)) in crates().await {
        if name.ends_with("-core") || name == "dockline-plugin-specs" || name == "dockline-types" {
            cores += 1;
            let found: Vec<_> = doing.iter().filter(|&&doer| needs.contains(doer)).collect();
            assert!(found.is_empty(), "{name} decides only, but needs {found:?}");
        }
    }
    assert!(cores >= 5, "only {cores} crates were looked at");
}

#[tokio::test]
async fn arrows_point_one_way() {
    let crates = crates().await;
    let in_folder = |folder: &str| -> BTreeSet<String> {
        let inside = crates.iter().filter(|(_, (path, _))| path.starts_with(root().join(folder)));
        inside.map(|(name, _)| name.clone()).collect()
    };
    let plugins = ["ipam", "netplugin", "volplugin"].map(in_folder);
    let tests = in_folder("integration");
    for (name, (_, needs)) in &crates {
        let own = plugins.iter().find(|plugin| plugin.contains(name));
        for (plugin, need) in plugins.iter().flat_map(|p| needs.iter().map(move |n| (p, n))) {
            let foreign = plugin.contains(need) && own != Some(plugin);
            assert!(!foreign, "{name} needs {need}, which is another plugin's");
        }
        if !tests.contains(name) {
            let found: Vec<_> = needs.intersection(&tests).collect();
            assert!(found.is_empty(), "{name} needs {found:?}, which is for tests");
        }
    }
}

#[tokio::test]
async fn the_map_names_every_crate_and_its_folder() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, (folder, _)) in crates().await {
        let folder = folder.strip_prefix(root()).unwrap().display().to_string();
        let row = format!("| `{folder}` | {name} |");
        assert!(map.contains(&row), "ARCHITECTURE.md has no row beginning {row}");
    }
}

#[tokio::test]
async fn every_module_says_what_it_is_and_fits_a_sitting() {
    for file in files("*.rs").await {
        let text = std::fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(root()).unwrap().display();
        assert!(text.starts_with("//!"), "{shown} does not say what it is");
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{shown} has {lines} lines: split it by topic");
    }
}

#[tokio::test]
async fn nothing_is_left_undone_or_waved_through() {
    // Put together here, so that this file does not hold them.
    let forbidden = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[all", "ow("].concat(),
        ["#![all", "ow("].concat(),
        ["#[ign", "ore"].concat(),
        ["dbg", "!("].concat(),
    ];
    for file in files("*.rs").await {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in &forbidden {
            let shown = file.strip_prefix(root()).unwrap().display();
            assert!(!text.contains(word), "{shown} holds {word}");
        }
    }
}

#[tokio::test]
async fn links_between_the_documents_lead_somewhere() {
    for file in files("*.md").await {
        let text = std::fs::read_to_string(&file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let there = file.parent().unwrap().join(path);
            assert!(there.exists(), "{} links to {target}, which is not there", file.display());
        }
    }
}
