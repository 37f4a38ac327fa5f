//! When and on what a figure was measured: figures without it say nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

/// When and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Day and minute, UTC.
    pub(crate) date: String,
    /// The commit that was checked out, `+changes` behind it where files differed; empty where there is no git.
    pub(crate) commit: String,
    /// The processor's model.
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// In bytes.
    pub(crate) memory: u64,
    /// Distribution and kernel.
    pub(crate) system: String,
}

impl Stamp {
    /// Now and here.
    pub(crate) fn now() -> Self {
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        let model = field(&cpu, "model name").or_else(|| field(&cpu, "CPU part")).unwrap_or("unknown processor");
        let kib = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let release = read("/etc/os-release");
        let os = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown system");
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit().unwrap_or_default(),
            cpu: model.to_owned(),
            cores: available_parallelism().map_or(0, std::num::NonZero::get),
            memory: kib.unwrap_or_default().saturating_mul(1024),
            system: format!("{}, Linux {}", os.trim_matches('"'), kernel.trim()),
        }
    }

    /// What it was measured on, in a line.
    pub(crate) fn machine(&self) -> String {
        format!("{}, {} cores, {:.1} GB; {}", self.cpu, self.cores, self.memory as f64 / 1e9, self.system)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first `name : value` of a file of /proc.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn commit() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{commit}+changes") } else { commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU: fast\n";
        assert_eq!(field(text, "model name"), Some("A CPU: fast"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn a_stamp_has_a_date_a_processor_and_a_system() {
        let stamp = Stamp::now();
        assert!(stamp.date.starts_with("20") && stamp.date.ends_with("UTC"), "{stamp:?}");
        assert!(stamp.cores > 0 && !stamp.cpu.is_empty() && stamp.machine().contains("Linux"), "{stamp:?}");
    }
}
