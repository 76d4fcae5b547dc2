//! The initrd: a busybox, a few modules, and an init that fetches one URL.

use super::cache::fingerprint;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The machine's init.
const INIT: &str = include_str!("init.sh");

/// The script that udhcpc calls with an address.
const DHCP: &str = include_str!("dhcp.sh");

/// A cpio archive in the "newc" format that the kernel unpacks.
#[derive(Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
    entries: u32,
}

/// A fingerprint of the scripts.
pub(super) fn version() -> String {
    fingerprint([INIT, DHCP])
}

// === impl Image ===

impl Image {
    /// Creates an initrd with the scripts; busybox and the modules are added later.
    pub(super) fn new() -> Self {
        let mut image = Self {
            bytes: Vec::new(),
            entries: 0,
        };
        for folder in ["bin", "modules", "proc", "sys", "dev", "etc"] {
            image.entry(folder, 0o040_755, &[]);
        }
        image.file("init", 0o755, INIT.as_bytes());
        image.file("dhcp", 0o755, DHCP.as_bytes());
        image
    }

    /// Adds a regular file.
    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, content);
    }

    /// Writes the compressed archive.
    pub(super) fn write(mut self, path: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[]);
        let file =
            File::create(path).with_context(|| format!("could not write {}", path.display()))?;
        let mut gzip = Command::new("gzip")
            .args(["-1", "-n"])
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .context("could not run gzip")?;
        gzip.stdin
            .take()
            .context("gzip has no input")?
            .write_all(&self.bytes)
            .context("gzip did not read its input")?;
        let status = gzip.wait().context("could not wait for gzip")?;
        ensure!(status.success(), "gzip ended with {status}");
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let inode = self.entries;
        let mut head = String::from("070701");
        let size = u32::try_from(content.len()).expect("no file of an initrd has 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size,
        // checksum
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            let _ = write!(head, "{field:08X}");
        }
        self.bytes.extend(head.bytes());
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
