//! How much memory this process may use.

use std::fs;

/// Where nothing can be found out: little enough for any machine that runs a job.
const UNKNOWN: u64 = 1 << 30;

/// Half of what the process may use: the rest is for records under way, windows, the store and the program itself.
pub(super) fn for_state() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok());
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    half(limits.filter_map(|text| text.trim().parse().ok()), total(&machine))
}

fn half(limits: impl Iterator<Item = u64>, machine: Option<u64>) -> u64 {
    limits.chain(machine).min().map_or(UNKNOWN, |bytes| bytes / 2)
}

/// The line `MemTotal:       24043712 kB` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_limit_counts_where_it_is_the_less() {
        let machine = total("MemTotal:       1024 kB\nMemFree:  5 kB\n");
        assert_eq!(machine, Some(1 << 20));
        assert_eq!(half([1 << 18].into_iter(), machine), 1 << 17);
        assert_eq!(half([u64::MAX].into_iter(), machine), 1 << 19);
        assert_eq!(half([].into_iter(), None), UNKNOWN / 2 * 2);
        assert_eq!(total("MemTotal: many kB"), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(for_state() > 1 << 20);
    }
}
