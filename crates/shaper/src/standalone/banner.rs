//! The message on the terminal at startup.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use api::BaseUrl;
use inspect::console::harmless;

use super::loader::LoadSummary;
use crate::admin::AdminAddress;

/// The startup message: what was loaded, where it is served, and how to lead machines there.
pub(super) struct Banner {
    pub(super) dir: PathBuf,
    pub(super) http_listen: SocketAddr,
    pub(super) admin_listen: AdminAddress,
    pub(super) tftp_listen: Option<SocketAddr>,
    pub(super) public_url: Option<BaseUrl>,
}

impl Banner {
    /// Prints the message if standard output is a terminal.
    pub(super) fn print(&self, loaded: &LoadSummary) {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            // A closed terminal is not a reason to stop serving.
            let _ = out.write_all(self.text(loaded).as_bytes());
        }
    }

    fn text(&self, loaded: &LoadSummary) -> String {
        let url = self.public_url.as_ref().map_or_else(
            || format!("http://{}", reachable(self.http_listen)),
            ToString::to_string,
        );
        let host = reachable(self.http_listen).ip();
        let tftp = self.tftp_listen.map(reachable);
        let firmware =
            tftp.map_or_else(String::new, |tftp| format!("  firmware   tftp://{tftp}/\n"));
        let (before, first) = match tftp {
            None => (
                "if another TFTP server sends iPXE to the firmware (shaper does with --tftp-root)",
                String::new(),
            ),
            Some(_) => (
                "with the file names below --tftp-root",
                format!(
                    "  dhcp-match=set:bios,option:client-arch,0\n  dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe,,{host}\n  \
                     dhcp-boot=tag:!ipxe,tag:!bios,ipxe.efi,,{host}\n"
                ),
            ),
        };
        let problems = match loaded.problems.len() {
            0 => String::new(),
            1 => format!(
                ", and one problem:\n  {}",
                harmless(&loaded.problems[0].to_string())
            ),
            more => format!(
                ", and {more} problems; the first:\n  {}",
                harmless(&loaded.problems[0].to_string())
            ),
        };
        format!(
            "\
shaper serves {profiles} Profiles, {assignments} Assignments and {machines} Machines from {dir}{problems}
  machines   {url}/boot.ipxe
{firmware}  operators  {admin}/metrics, /readyz?verbose, /explain?uuid=...

For dnsmasq, {before}:
  dhcp-match=set:ipxe,175
  dhcp-boot=tag:ipxe,{url}/boot.ipxe
{first}
",
            profiles = loaded.profiles,
            assignments = loaded.assignments,
            machines = loaded.machines,
            dir = harmless(&self.dir.display().to_string()),
            admin = match &self.admin_listen {
                AdminAddress::Tcp(address) => format!("http://{address}"),
                AdminAddress::Unix(path) => {
                    format!("curl --unix-socket {} http://localhost", path.display())
                }
            },
        ) + &format!(
            "Loaded in {} ms. Press Ctrl-C to stop. Requests are logged below:\n",
            loaded.took.as_millis()
        )
    }
}

/// Returns an address at which other machines may reach this listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(outbound_address().unwrap_or_else(|| [127, 0, 0, 1].into()));
    }
    address
}

/// Returns the address that this machine would send from. `connect` on a datagram socket chooses a
/// route and sends nothing.
fn outbound_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // TEST-NET-1 (RFC 5737), which has no hosts.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}
