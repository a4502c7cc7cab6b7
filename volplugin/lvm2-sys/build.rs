//! Links liblvm2cmd, which has no pkg-config file.

fn main() {
    println!("cargo::rustc-link-lib=dylib=lvm2cmd");
    println!("cargo::rerun-if-changed=build.rs");
}
