//! QEMU's command line.

use super::{Builder, Firmware, Link, OVMF};
use crate::assets::Ipxe;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// The arguments of QEMU.
#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

/// The arguments for a machine, which may keep files in `folder`.
pub(super) fn of(machine: &Builder, folder: &Path) -> Result<Vec<OsString>> {
    let mut args = Arguments::default();
    // Emulation works everywhere; KVM inside another virtual machine often doesn't.
    args.add(
        "-accel",
        std::env::var_os("SHAPER_E2E_ACCEL").unwrap_or_else(|| "tcg".into()),
    );
    args.add("-cpu", "max");
    args.add("-m", "512");
    args.add("-uuid", &machine.uuid);
    if !machine.system.is_empty() {
        let fields = machine
            .system
            .iter()
            .map(|(key, value)| format!(",{key}={}", escape(value)));
        args.add("-smbios", format!("type=1{}", fields.collect::<String>()));
    }
    if let Some(asset) = &machine.asset {
        args.add("-smbios", format!("type=3,asset={}", escape(asset)));
    }
    if machine.firmware == Firmware::Uefi {
        args.add("-bios", OVMF);
    }
    if let Some(certificate) = &machine.trusted {
        let list = folder.join("cacerts");
        fs::write(&list, signature_list(certificate))?;
        args.add(
            "-fw_cfg",
            format!(
                "name=etc/edk2/https/cacerts,file={}",
                escape(&list.display().to_string())
            ),
        );
    }
    let has_rom = args.boot_from(machine, folder)?;
    for (number, card) in machine.cards.iter().enumerate() {
        args.add("-netdev", netdev(&card.link, number)?);
        // The card's ROM is the installed iPXE. Without it, UEFI firmware boots by its own network
        // stack.
        let rom = if has_rom && number == 0 {
            ""
        } else {
            ",romfile="
        };
        args.add(
            "-device",
            format!("virtio-net-pci,netdev=n{number},mac={}{rom}", card.mac),
        );
    }
    args.0
        .extend(["-nographic", "-no-reboot"].map(OsString::from));
    Ok(args.0)
}

// === impl Arguments ===

impl Arguments {
    fn add(&mut self, key: &str, value: impl Into<OsString>) {
        self.0.extend([key.into(), value.into()]);
    }

    /// Adds the arguments that provide iPXE. Returns whether it comes from the first card's ROM.
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
                fs::copy(&efi, programs.join("BOOTX64.EFI"))
                    .with_context(|| format!("could not copy {}", efi.display()))?;
                self.add(
                    "-drive",
                    format!(
                        "file=fat:{},format=raw,if=none,id=d0,readonly=on",
                        disk.display()
                    ),
                );
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
            let folder = bootfile
                .parent()
                .context("the boot file has no folder")?
                .display()
                .to_string();
            let name = bootfile
                .file_name()
                .context("the boot file has no name")?
                .to_string_lossy();
            format!(
                "user,id=n{number},restrict=on,net=10.0.9.0/24,tftp={},bootfile={}",
                escape(&folder),
                escape(&name)
            )
        }
        Link::Tap { tap, .. } => format!("tap,id=n{number},ifname={tap},script=no,downscript=no"),
    })
}

/// One certificate as the variable `TlsCaCertificate` holds it: an `EFI_SIGNATURE_LIST` of type
/// X.509 (UEFI 2.10, section 32.4.1).
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    const HEAD: usize = 28;
    const OWNER: [u8; 16] = [0; 16];
    // The GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072; its first three fields are little-endian.
    let mut list = vec![
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0,
        0x72,
    ];
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    list.extend(size(HEAD + OWNER.len() + certificate.len()));
    list.extend(size(0));
    list.extend(size(OWNER.len() + certificate.len()));
    list.extend(OWNER);
    list.extend(certificate);
    list
}

/// Escapes a value: QEMU splits options at commas, and two commas are one literal comma.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}
