//! Which node is called next. Pure: time is handed in.

use std::time::{Duration, Instant};

/// How long a node is left out after its first failure in a row; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);

/// The longest that a node is left out.
const LONGEST: Duration = Duration::from_secs(60);

/// The nodes of a cluster, called in turn.
#[derive(Debug)]
pub(super) struct Nodes {
    health: Vec<Health>,
    next: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    failures: u32,
    left_out_until: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(count: usize) -> Self {
        Self { health: vec![Health::default(); count], next: 0 }
    }

    /// The next that is not left out at `now`; where all are, the one whose time is over first. The number of a node; zero
    /// where there is none.
    pub(super) fn pick(&mut self, now: Instant) -> usize {
        let count = self.health.len().max(1);
        let turn = (0..count).map(|step| self.next.wrapping_add(step).checked_rem(count).unwrap_or(0));
        let until =
            |node: &usize| self.health.get(*node).and_then(|health| health.left_out_until.filter(|until| *until > now));
        // The first of the least, and `None`, not left out, is the least.
        let node = turn.min_by_key(until).unwrap_or(0);
        self.next = node.wrapping_add(1);
        node
    }

    /// A node could not be called at `now`.
    pub(super) fn failed(&mut self, node: usize, now: Instant) {
        if let Some(health) = self.health.get_mut(node) {
            let time = FIRST.saturating_mul(1 << health.failures.min(10)).min(LONGEST);
            health.failures = health.failures.saturating_add(1);
            health.left_out_until = now.checked_add(time);
        }
    }

    /// A node has answered.
    pub(super) fn succeeded(&mut self, node: usize) {
        if let Some(health) = self.health.get_mut(node) {
            *health = Health::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn nodes_are_called_in_turn() {
        let (mut nodes, now) = (Nodes::new(3), Instant::now());
        assert_eq!([0; 5].map(|_| nodes.pick(now)), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_node_that_fails_is_left_out_longer_and_longer_until_it_answers() {
        let (mut nodes, start) = (Nodes::new(2), Instant::now());
        nodes.failed(0, start);
        assert_eq!([0; 3].map(|_| nodes.pick(start)), [1, 1, 1]);
        assert_eq!([0; 3].map(|_| nodes.pick(start + seconds(1))), [0, 1, 0]);
        nodes.failed(0, start + seconds(1));
        assert_eq!([0; 2].map(|_| nodes.pick(start + seconds(2))), [1, 1]);
        assert_eq!(nodes.pick(start + seconds(3)), 0);
        nodes.succeeded(0);
        nodes.failed(0, start + seconds(10));
        assert_eq!([0; 2].map(|_| nodes.pick(start + seconds(11))), [1, 0]);
    }

    #[test]
    fn where_all_are_left_out_the_one_is_called_whose_time_is_over_first() {
        let (mut nodes, now) = (Nodes::new(2), Instant::now());
        nodes.failed(0, now);
        nodes.failed(0, now);
        nodes.failed(1, now);
        assert_eq!(nodes.pick(now), 1);
    }

    proptest! {
        #[test]
        fn a_node_that_is_alive_is_called_before_a_dead_one(
            count in 1usize..6, events in proptest::collection::vec((0usize..6, any::<bool>(), 0u64..20), 0..60),
        ) {
            let (mut nodes, mut now) = (Nodes::new(count), Instant::now());
            let mut dead = vec![None; count];
            for (node, fails, wait) in events {
                now += seconds(wait);
                let picked = nodes.pick(now);
                prop_assert!(picked < count);
                let is_dead = |node: &Option<Instant>| node.is_some_and(|until| until > now);
                prop_assert!(!is_dead(&dead[picked]) || dead.iter().all(is_dead));
                let node = node % count;
                if fails {
                    nodes.failed(node, now);
                    dead[node] = nodes.health[node].left_out_until;
                } else {
                    nodes.succeeded(node);
                    dead[node] = None;
                }
            }
        }
    }
}
