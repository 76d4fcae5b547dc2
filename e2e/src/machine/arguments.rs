//! What QEMU is told.

use super::{Builder, Firmware, Link, OVMF};
use crate::assets::Ipxe;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// QEMU's command line.
#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

/// The arguments for a machine, which may keep files in `folder`.
pub(super) fn of(machine: &Builder, folder: &Path) -> Result<Vec<OsString>> {
    let mut args = Arguments::default();
    // Emulation works everywhere; KVM inside another virtual machine often doesn't.
    args.add("-accel", std::env::var_os("SHAPER_E2E_ACCEL").unwrap_or_else(|| "tcg".into()));
    args.add("-cpu", "max");
    args.add("-m", "512");
    args.add("-uuid", &machine.uuid);
    if !machine.system.is_empty() {
        let fields = machine.system.iter().map(|(key, value)| format!(",{key}={}", escape(value)));
        args.add("-smbios", format!("type=1{}", fields.collect::<String>()));
    }
    if let Some(asset) = &machine.asset {
        args.add("-smbios", format!("type=3,asset={}", escape(asset)));
    }
    if machine.firmware == Firmware::Uefi {
        args.add("-bios", OVMF);
    }
    let has_rom = args.boot_from(machine, folder)?;
    for (number, card) in machine.cards.iter().enumerate() {
        args.add("-netdev", netdev(&card.link, number)?);
        // The card's ROM is the installed iPXE. Without it, a UEFI firmware boots by its own network stack.
        let rom = if has_rom && number == 0 { "" } else { ",romfile=" };
        args.add("-device", format!("virtio-net-pci,netdev=n{number},mac={}{rom}", card.mac));
    }
    args.0.extend(["-nographic", "-no-reboot"].map(OsString::from));
    Ok(args.0)
}

// === impl Arguments ===

impl Arguments {
    fn add(&mut self, key: &str, value: impl Into<OsString>) {
        self.0.extend([key.into(), value.into()]);
    }

    /// Says where the machine gets its iPXE from. Whether that is the first card's ROM is the answer.
    fn boot_from(&mut self, machine: &Builder, folder: &Path) -> Result<bool> {
        let is_on_tap = matches!(machine.cards[0].link, Link::Tap { .. });
        match (machine.firmware, machine.ipxe) {
            (Firmware::Bios, ipxe) if is_on_tap || ipxe == Ipxe::Installed => {
                self.add("-boot", "n");
                Ok(true)
            }
            (Firmware::Bios, ipxe) => {
                self.add("-kernel", ipxe.files()?.lkrn());
                Ok(false)
            }
            (Firmware::Uefi, _) if is_on_tap => {
                self.add("-boot", "n");
                Ok(false)
            }
            (Firmware::Uefi, ipxe) => {
                let disk = folder.join("disk");
                let programs = disk.join("EFI/BOOT");
                fs::create_dir_all(&programs)?;
                let efi = ipxe.files()?.efi();
                fs::copy(&efi, programs.join("BOOTX64.EFI")).with_context(|| format!("could not copy {}", efi.display()))?;
                self.add("-drive", format!("file=fat:{},format=raw,if=none,id=d0,readonly=on", disk.display()));
                self.add("-device", "virtio-blk-pci,drive=d0,bootindex=0");
                Ok(false)
            }
        }
    }
}

fn netdev(link: &Link, number: usize) -> Result<String> {
    Ok(match link {
        Link::User { bootfile } => format!("user,id=n{number},bootfile={}", escape(bootfile)),
        Link::Isolated { bootfile } => {
            let folder = bootfile.parent().context("the boot file has no folder")?.display().to_string();
            let name = bootfile.file_name().context("the boot file has no name")?.to_string_lossy();
            format!("user,id=n{number},restrict=on,net=10.0.9.0/24,tftp={},bootfile={}", escape(&folder), escape(&name))
        }
        Link::Tap { tap, .. } => format!("tap,id=n{number},ifname={tap},script=no,downscript=no"),
    })
}

/// QEMU splits its options at commas; two of them stand for one.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}
