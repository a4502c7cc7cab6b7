//! The lab's page in the docs is true where that can be checked.

const PAGE: &str = include_str!("../../../docs/lab.md");

#[test]
fn the_page_quotes_the_example_as_it_is_compiled() {
    let example = include_str!("example.rs");
    let (_, code) = example.split_once("\n\n").expect("a module comment and code");
    assert!(PAGE.contains(code), "copy tests/example.rs from its first `use` into docs/lab.md");
}

#[test]
fn the_page_names_every_verb() {
    let sources = [
        include_str!("../src/node.rs"),
        include_str!("../src/faults.rs"),
        include_str!("../src/disk.rs"),
        include_str!("../src/roles.rs"),
        include_str!("../src/topology.rs"),
        include_str!("../src/lab.rs"),
    ];
    let verbs = sources.iter().flat_map(|source| source.lines()).filter_map(|line| {
        let rest = line.strip_prefix("    pub ")?;
        let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
        rest.split(['(', '<']).next()
    });
    let missing: Vec<&str> = verbs
        .filter(|verb| {
            ![format!("`{verb}"), format!("::{verb}")].iter().any(|name| PAGE.contains(name))
        })
        .collect();
    assert!(missing.is_empty(), "docs/lab.md does not name {missing:?}");
}
