//! A Debian kernel, and an initrd made for it.

use super::{archive::Archive, initrd};
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that virtio needs, in load order: `virtio_ring` comes before `virtio`.
const MODULES: [&str; 8] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// Writes `vmlinuz` and `initrd.gz` into `folder`.
pub(super) fn build(folder: &Path) -> Result<()> {
    let archive = Archive::of_this_system()?;
    let kernel = archive.dependency("linux-image-cloud-amd64")?;
    eprintln!("e2e: downloading {kernel} and busybox-static");
    let unpacked = tempfile::tempdir().context("could not make a temporary folder")?;
    archive.unpack(&[&kernel, "busybox-static"], unpacked.path())?;

    let boot = unpacked.path().join("boot");
    fs::copy(only_entry(&boot, "vmlinuz-")?, folder.join("vmlinuz"))
        .context("could not copy the kernel")?;

    let mut image = initrd::Image::new();
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| unpacked.path().join(path))
        .into_iter()
        .find(|path| path.is_file())
        .context("the package busybox-static has no busybox")?;
    image.file("bin/busybox", 0o755, &fs::read(&busybox)?);
    let libraries = ["lib/modules", "usr/lib/modules"]
        .map(|path| unpacked.path().join(path))
        .into_iter()
        .find(|path| path.is_dir())
        .context("the kernel's package has no modules")?;
    let version = only_entry(&libraries, "")?;
    for (number, module) in MODULES.iter().enumerate() {
        if let Some(bytes) = read_module(&version, module, &busybox)? {
            let name = Path::new(module)
                .file_name()
                .unwrap_or_default()
                .display()
                .to_string();
            // The number keeps the order for the init script's `*`.
            image.file(&format!("modules/{number}-{name}.ko"), 0o644, &bytes);
        }
    }
    image.write(&folder.join("initrd.gz"))
}

/// A module's bytes; `None` if the kernel has it built in.
fn read_module(version: &Path, module: &str, busybox: &Path) -> Result<Option<Vec<u8>>> {
    let plain = version.join("kernel").join(format!("{module}.ko"));
    let compressed = plain.with_extension("ko.xz");
    if compressed.is_file() {
        // The system may have no xz; this busybox has one.
        process::output(
            &busybox.display().to_string(),
            [Path::new("unxz"), &compressed],
        )?;
    }
    if plain.is_file() {
        return fs::read(&plain)
            .map(Some)
            .with_context(|| format!("could not read {}", plain.display()));
    }
    let builtin = fs::read_to_string(version.join("modules.builtin")).unwrap_or_default();
    if builtin
        .lines()
        .any(|line| line == format!("kernel/{module}.ko"))
    {
        return Ok(None);
    }
    bail!("the kernel {} has no module {module}", version.display())
}

/// The one entry of `folder` whose name starts with `prefix`.
fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("could not read {}", folder.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| {
            format!(
                "{} holds nothing that starts with {prefix:?}",
                folder.display()
            )
        })
}
