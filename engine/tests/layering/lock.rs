//! Reads a Cargo.lock and says what a crate drags in.

use std::collections::{BTreeMap, BTreeSet};

/// Every locked package's direct dependencies, by "name version"; the version is left out where Cargo leaves it out.
pub(crate) struct Lock(BTreeMap<String, Package>);

#[derive(Default)]
struct Package {
    versions: BTreeSet<String>,
    dependencies: BTreeSet<String>,
}

impl Lock {
    pub(crate) fn read(text: &str) -> Self {
        let mut packages: BTreeMap<String, Package> = BTreeMap::new();
        for block in text.split("[[package]]").skip(1) {
            let value = |key: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
                line.unwrap_or_default().trim_matches('"').to_string()
            };
            let package = packages.entry(value("name")).or_default();
            package.versions.insert(value("version"));
            let listed = block.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
            package.dependencies.extend(listed.map(str::to_string));
        }
        Self(packages)
    }

    /// How many versions of a package are locked.
    pub(crate) fn versions(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |package| package.versions.len())
    }

    /// Everything that a package depends on, however indirectly. Packages of several versions count as one, and
    /// dependencies of tests and builds count too, so it may name more than is linked and never less.
    pub(crate) fn closure(&self, name: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![name.to_string()];
        while let Some(name) = open.pop() {
            for dependency in self.0.get(&name).iter().flat_map(|package| &package.dependencies) {
                if seen.insert(dependency.clone()) {
                    open.push(dependency.clone());
                }
            }
        }
        seen
    }
}
