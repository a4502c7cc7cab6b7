//! Nothing of its own: the tests of this crate hold the house to its rules (CONTRIBUTING.md).
