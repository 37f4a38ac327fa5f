//! Reads which named points the code has, and at which of them tests kill a process.
//!
//! Both are found as tokens, so that a comment or a message that tells of a point is none.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Points that make something happen instead of standing between two steps: nobody is killed there.
pub(crate) const SWITCHES: [&str; 1] = ["store::fold-at-once"];

/// The points that a source names: `fail_point!("commit::after-sink")`.
pub(crate) fn named(source: &str) -> BTreeSet<String> {
    found("fail_point", true, source)
}

/// The points at which a test kills: `killed_at("commit::after-sink", &[1])`.
///
/// That one really does is seen to by what this gives: a `Kill`, which nothing takes but helpers that hold that a process
/// has died of SIGKILL.
pub(crate) fn struck(source: &str) -> BTreeSet<String> {
    found("killed_at", false, source)
}

/// The literals that calls of `name` begin with.
fn found(name: &str, is_macro: bool, source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(name, is_macro, source.parse().expect("the compiler has read this file"), &mut found);
    found
}

fn walk(name: &str, is_macro: bool, stream: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => walk(name, is_macro, group.stream(), found),
            TokenTree::Ident(ident) if ident == name => {
                let bang = tokens.get(at + 1).is_some_and(|token| token.to_string() == "!");
                let arguments = tokens.get(at + 1 + usize::from(is_macro));
                if let (true, Some(TokenTree::Group(group))) = (bang == is_macro, arguments)
                    && group.delimiter() == Delimiter::Parenthesis
                {
                    found.insert(literal(name, group.stream()));
                }
            }
            _ => {}
        }
    }
}

fn literal(name: &str, arguments: TokenStream) -> String {
    let first = arguments.into_iter().next().map(|token| token.to_string()).unwrap_or_default();
    let text = first.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    text.unwrap_or_else(|| panic!("{name} begins with {first:?}, and not with the name of a point")).to_owned()
}
