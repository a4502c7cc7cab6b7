//! liblvm2cmd as its header declares it, and nothing more.
//!
//! The bindings are checked in, so that building needs no libclang; a test compares them with what
//! bindgen makes of the installed header. The library is not thread-safe and changes its process
//! (umask, `TZ`, memory locks, priority): only the helper process of `dockline-lvm` may call it.

#[rustfmt::skip]
#[expect(
    unsafe_code, missing_docs, non_camel_case_types,
    reason = "made by a program from a C header, which holds the documentation"
)]
mod bindings;

pub use bindings::*;
