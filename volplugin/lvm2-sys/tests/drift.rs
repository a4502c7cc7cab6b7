//! The bindings that are checked in are what bindgen makes of the installed header.

use std::path::Path;

/// Where the bindings are.
const BINDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bindings.rs");

fn generate() -> String {
    let header = "/usr/include/lvm2cmd.h";
    assert!(Path::new(header).exists(), "{header} is missing: install liblvm2-dev");
    bindgen::builder()
        .header(header)
        .allowlist_function("lvm2_.*")
        .allowlist_var("LVM2_.*")
        .allowlist_type("lvm2_.*")
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .disable_header_comment()
        .raw_line("//! Made by bindgen from lvm2cmd.h: see tests/drift.rs.")
        .generate()
        .expect("install libclang-dev")
        .to_string()
}

#[test]
fn the_bindings_are_those_of_the_header() {
    let generated = generate();
    if std::env::var_os("DOCKLINE_REGENERATE").is_some() {
        std::fs::write(BINDINGS, &generated).expect("the source folder can be written");
    }
    let kept = std::fs::read_to_string(BINDINGS).expect("the bindings");
    assert!(kept == generated, "run this with DOCKLINE_REGENERATE=1; bindgen makes:\n{generated}");
}
