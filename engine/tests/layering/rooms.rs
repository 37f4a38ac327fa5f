//! Reads a room's source and says which other rooms it imports from.
//!
//! It works on tokens, so comments, strings and formatting do not fool it, and it sees into macros. Modules that are
//! only compiled for tests are skipped: a test may look anywhere.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The rooms in the order a record walks them. Each imports only from those before it.
///
/// Some stand elsewhere than in the order of a record's walk: `sink` comes before `snapshot`, because the snapshot stores what
/// sinks have staged (`StagedHandle`) and its commit gives the right to publish it (`CommitPermit`); and `metrics`
/// (names and handles) is near the top, because every room counts, while only the runtime serves what was counted.
pub(crate) const ROOMS: [&str; 16] = [
    "error",
    "vocabulary",
    "metrics",
    "retry",
    "source",
    "decode",
    "event_time",
    "exchange",
    "window",
    "state",
    "sink",
    "snapshot",
    "operators",
    "flow",
    "runtime",
    "testing",
];

/// The rooms that may name timely or differential dataflow.
pub(crate) const DATAFLOW_ROOMS: [&str; 3] = ["operators", "flow", "runtime"];

const DATAFLOW_CRATES: [&str; 2] = ["timely", "differential_dataflow"];

/// What lies at the root of the crate: names that `lib.rs` re-exports, with the room they come from.
pub(crate) type Root = BTreeMap<String, String>;

/// The rooms that `lib.rs` declares and the names that it re-exports.
pub(crate) fn read_root(lib: &str) -> (Vec<String>, Root) {
    let tokens = tokens(lib);
    let (mut rooms, mut root) = (Vec::new(), Root::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if is(token, "mod") {
            rooms.extend(tokens.get(at + 1).map(ToString::to_string));
        }
        if is(token, "use") {
            let mut paths = Vec::new();
            at = use_tree(&tokens, at + 1, &[], &mut paths);
            for path in paths {
                let inside = path.strip_prefix(&["crate".to_string()]).or(path.strip_prefix(&["self".to_string()]));
                if let [room, .., name] = inside.unwrap_or(&path) {
                    root.insert(name.clone(), room.clone());
                }
            }
        }
        at += 1;
    }
    (rooms, root)
}

/// What is wrong with a file of `room`. `depth` is how many modules its own module is below the crate's root.
pub(crate) fn offences(room: &str, depth: usize, source: &str, root: &Root) -> Vec<String> {
    let mut scan = Scan { room, root, found: Vec::new() };
    scan.read(&tokens(source), depth);
    scan.found.sort();
    scan.found.dedup();
    scan.found
}

struct Scan<'a> {
    room: &'a str,
    root: &'a Root,
    found: Vec<String>,
}

impl Scan<'_> {
    fn read(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let Some(end) = end_of_test_module(tokens, at) {
                at = end;
                continue;
            }
            if is(token, "use") {
                let mut paths = Vec::new();
                at = use_tree(tokens, at + 1, &[], &mut paths);
                paths.iter().for_each(|path| self.path(path, depth));
            } else if let TokenTree::Ident(_) = token {
                let mut paths = Vec::new();
                let end = use_tree(tokens, at, &[], &mut paths).max(at);
                paths.iter().for_each(|path| self.path(path, depth));
                let before = at.checked_sub(1).and_then(|at| tokens.get(at));
                let is_module = before.is_some_and(|token| is(token, "mod"));
                if let (true, Some(TokenTree::Group(body))) = (is_module, tokens.get(at + 1)) {
                    self.read(&trees(body.stream()), depth + 1);
                    at += 1;
                } else {
                    at = end;
                }
            } else if let TokenTree::Group(group) = token {
                self.read(&trees(group.stream()), depth);
            }
            at += 1;
        }
    }

    fn path(&mut self, path: &[String], depth: usize) {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let to_root = match path.first().map(String::as_str) {
            Some("crate") => 1,
            Some("super") if supers >= depth => supers,
            Some(name) if DATAFLOW_CRATES.contains(&name) && path.len() > 1 => {
                if !DATAFLOW_ROOMS.contains(&self.room) {
                    self.found.push(format!("{} must not name {name}", self.room));
                }
                return;
            }
            _ => return,
        };
        let Some(name) = path.get(to_root) else { return };
        let target = self.root.get(name).unwrap_or(name).as_str();
        let order = |room: &str| ROOMS.iter().position(|known| *known == room);
        match (order(self.room), order(target)) {
            (Some(own), Some(other)) if other <= own => {}
            (Some(_), Some(_)) => self.found.push(format!("{} must not import from {target}", self.room)),
            (None, _) => self.found.push(format!("{} is not a known room", self.room)),
            (_, None) => self.found.push(format!("{} imports {name}, which is no room and not re-exported", self.room)),
        }
    }
}

/// Reads a path or a tree of paths that begins at `at`, as in `a::b::{c, d::e}`. Gives the index of its last token.
fn use_tree(tokens: &[TokenTree], mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while is_separator(tokens, at) {
        at += 2;
    }
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => path.push(name.to_string().trim_start_matches("r#").to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                for branch in trees(group.stream()).split(|token| is(token, ",")) {
                    use_tree(branch, 0, &path, paths);
                }
                return at;
            }
            _ => {
                paths.push(path);
                return at.saturating_sub(1);
            }
        }
        if !is_separator(tokens, at + 1) {
            paths.push(path);
            return at;
        }
        at += 3;
    }
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| tokens.get(at).is_some_and(|token| is(token, ":"));
    colon(at) && colon(at + 1)
}

/// The index after a module that is only compiled for tests, where one begins at `at`: `#[cfg(test)] pub(crate) mod x {…}`.
fn end_of_test_module(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let attribute = |at: usize| tokens.get(at).is_some_and(|token| is(token, "#"));
    let test_only = tokens.get(at + 1).is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]");
    if !(attribute(at) && test_only) {
        return None;
    }
    let mut at = at + 2;
    while attribute(at) {
        at += 2;
    }
    if is(tokens.get(at)?, "pub") {
        at += if matches!(tokens.get(at + 1), Some(TokenTree::Group(_))) { 2 } else { 1 };
    }
    // `mod`, its name, and its body or semicolon.
    is(tokens.get(at)?, "mod").then_some(at + 3)
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(name) => name == text,
        TokenTree::Punct(punct) => text.len() == 1 && text.starts_with(punct.as_char()),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}

fn trees(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn tokens(source: &str) -> Vec<TokenTree> {
    trees(source.parse().expect("the compiler has read this file"))
}
