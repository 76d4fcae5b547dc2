//! Measures the CPU time of a server and all its children, including those never waited for, with a
//! cgroup.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// A cgroup (version 2), removed when dropped, once its processes have ended.
pub(crate) struct Group {
    folder: PathBuf,
}

impl Group {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("can't read /proc/mounts")?;
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"));
        let mount = mount
            .and_then(|fields| fields.get(1).copied())
            .context("there is no cgroup of version 2 to count CPU time with")?;
        let folder = PathBuf::from(mount).join(format!("shaper-bench-{}", std::process::id()));
        if !folder.is_dir() {
            fs::create_dir(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
        Ok(Self { folder })
    }

    /// Adds a process and its future children.
    pub(crate) fn add(&self, pid: u32) -> anyhow::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
            .context("can't move the server into a cgroup")
    }

    /// Returns the CPU time used so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Duration> {
        let text = fs::read_to_string(self.folder.join("cpu.stat"))
            .context("can't read the CPU time of a cgroup")?;
        let microseconds = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        microseconds
            .map(Duration::from_micros)
            .context("the cgroup does not say how much CPU time it used")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that is slow to end keeps the cgroup; the next measurement reuses it.
        let _ = fs::remove_dir(&self.folder);
    }
}
