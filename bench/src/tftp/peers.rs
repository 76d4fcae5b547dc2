//! The servers under test, on port 69.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::process::{self, Process};

use super::{FILE, cpu, optimised};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Shaper,
    Dnsmasq,
    TftpdHpa,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Shaper, Self::Dnsmasq, Self::TftpdHpa];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shaper => "shaper",
            Self::Dnsmasq => "dnsmasq",
            Self::TftpdHpa => "tftpd-hpa",
        }
    }

    /// Whether the server supports RFC 7440.
    pub(crate) fn has_windowsize(self) -> bool {
        self == Self::Shaper
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(self, folder: &Path, group: &cpu::Group) -> anyhow::Result<Process> {
        let root = folder.display();
        let (program, args) = match self {
            Self::Shaper => {
                let args = format!(
                    "--log warn tftp --tftp-root {root} --tftp-listen [::]:69 --admin-listen 127.0.0.1:0"
                );
                (optimised::shaper(None)?, args)
            }
            Self::Dnsmasq => {
                let args = format!(
                    "--conf-file=/dev/null --keep-in-foreground --port=0 --user=root --pid-file= --enable-tftp --tftp-root={root} \
                     --tftp-max=1000 --log-facility=/dev/null --quiet-tftp"
                );
                (
                    process::find("dnsmasq").context("dnsmasq is not in PATH")?,
                    args,
                )
            }
            Self::TftpdHpa => {
                // No address: with one, it checks which of IPv4 and IPv6 is available, and loopback
                // alone counts for neither.
                let args = format!("--foreground --user root --secure {root}");
                (
                    process::find("in.tftpd").context("in.tftpd is not in PATH")?,
                    args,
                )
            }
        };
        let mut server = Process::start(
            self.name(),
            program.as_os_str(),
            None,
            |command: &mut Command| {
                command
                    .args(args.split_whitespace())
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
            },
        )?;
        group.add(server.child().id())?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !super::client::has(FILE) {
            let over = server.ended()?.is_some() || Instant::now() > deadline;
            ensure!(!over, "{} does not answer on port 69", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}
