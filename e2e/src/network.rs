//! A boot network in a network namespace: a bridge, taps, DHCP and TFTP.
//!
//! Namespaces are isolated, so several networks can use the same addresses at once. Needs root.

use crate::assets::{Package, ensure_packages};
use crate::http::{self, Response};
use crate::process::{self, Process};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The boot server's address on every such network.
pub const SERVER: &str = "192.0.2.1";

/// The URL at which shaper listens on such a network.
pub const HTTP: &str = "http://192.0.2.1:8080";

/// The prefix of all namespaces of this crate; the owner's process id follows.
const PREFIX: &str = "shaper-e2e-";

/// A boot network. It is removed on drop.
#[derive(Debug)]
pub struct Network {
    netns: String,
    taps: AtomicU32,
    dnsmasq: Option<Process>,
    tftp: tempfile::TempDir,
}

/// Fetches a URL from inside a namespace, where this process is not.
pub(crate) fn get(netns: &str, url: &str) -> Result<Response> {
    // bash opens the connection, so no HTTP client needs to be installed.
    const SCRIPT: &str =
        r#"exec 3<>"/dev/tcp/${1%:*}/${1##*:}"; printf %s "$2" >&3; exec timeout 10 cat <&3"#;
    let (authority, target) = http::split(url)?;
    let answer = process::output(
        "ip",
        [
            "netns",
            "exec",
            netns,
            "bash",
            "-c",
            SCRIPT,
            "get",
            authority,
            &http::request(authority, target),
        ],
    )?;
    Response::parse(answer.as_bytes()).with_context(|| format!("in the answer from {url}"))
}

// === impl Network ===

impl Network {
    /// Creates the namespace and its bridge.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure_packages(&[Package::Iproute, Package::Dnsmasq])?;
        ensure!(
            process::is_root(),
            "a network namespace needs root: run the tests as root, or leave these out with \
             `cargo test -p e2e -- --skip namespace`"
        );
        remove_leftovers();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            netns: format!("{PREFIX}{}-{number}", std::process::id()),
            taps: AtomicU32::new(0),
            dnsmasq: None,
            tftp: tempfile::tempdir().context("could not make a temporary folder")?,
        };
        process::output("ip", ["netns", "add", &network.netns])
            .context("could not make a network namespace")?;
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            &format!("addr add {SERVER}/24 dev br0"),
        ] {
            network.ip(line)?;
        }
        Ok(network)
    }

    /// The name of the namespace.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Creates a tap for one machine.
    pub fn tap(&self) -> Result<crate::machine::Link> {
        let tap = format!("tap{}", self.taps.fetch_add(1, Ordering::Relaxed));
        for line in [
            format!("tuntap add {tap} mode tap"),
            format!("link set {tap} master br0"),
            format!("link set {tap} up"),
        ] {
            self.ip(&line)?;
        }
        Ok(crate::machine::Link::Tap {
            netns: self.netns.clone(),
            tap,
        })
    }

    /// Adds a file to the TFTP root.
    pub fn offer(&self, file: &Path) -> Result<()> {
        let name = file.file_name().context("a file by TFTP needs a name")?;
        fs::copy(file, self.tftp.path().join(name))
            .with_context(|| format!("could not copy {}", file.display()))?;
        Ok(())
    }

    /// Adds a text file to the TFTP root.
    pub fn offer_text(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.tftp.path().join(name), text)?)
    }

    /// Starts DHCP and TFTP. Firmware is offered the file for its kind, and an iPXE (option 175)
    /// `bootfile`. Without a `bootfile` it is offered none and looks for `autoexec.ipxe`.
    pub fn serve_dhcp(&mut self, bios: &str, uefi: &str, bootfile: Option<&str>) -> Result<()> {
        let root = format!("--tftp-root={}", self.tftp.path().display());
        self.start_dnsmasq(bios, uefi, bootfile, &["--enable-tftp", &root])
    }

    /// Starts DHCP alone; another server provides TFTP at the same address.
    pub fn serve_dhcp_only(
        &mut self,
        bios: &str,
        uefi: &str,
        bootfile: Option<&str>,
    ) -> Result<()> {
        self.start_dnsmasq(bios, uefi, bootfile, &[])
    }

    fn start_dnsmasq(
        &mut self,
        bios: &str,
        uefi: &str,
        bootfile: Option<&str>,
        tftp: &[&str],
    ) -> Result<()> {
        let dnsmasq = process::find("dnsmasq").context("dnsmasq is not in PATH")?;
        let mut log = fs::File::create(self.tftp.path().join("dnsmasq.log"))?;
        let stderr = log.try_clone()?;
        let mut process = Process::start(
            "dnsmasq",
            dnsmasq.as_os_str(),
            Some(&self.netns),
            |command| {
                command
                    .args([
                        "--conf-file=/dev/null",
                        "--keep-in-foreground",
                        "--log-facility=-",
                        "--log-dhcp",
                    ])
                    .args([
                        "--port=0",
                        "--interface=br0",
                        "--bind-interfaces",
                        "--user=root",
                        "--leasefile-ro",
                        "--pid-file=",
                    ])
                    .args([
                        "--dhcp-range=192.0.2.10,192.0.2.50,1h",
                        "--dhcp-match=set:ipxe,175",
                    ])
                    // 7 and 9 both mean x64.
                    .args([
                        "--dhcp-match=set:efi,option:client-arch,7",
                        "--dhcp-match=set:efi,option:client-arch,9",
                    ])
                    .arg(format!("--dhcp-boot=tag:!ipxe,tag:!efi,{bios}"))
                    .arg(format!("--dhcp-boot=tag:!ipxe,tag:efi,{uefi}"))
                    .args(bootfile.map(|bootfile| format!("--dhcp-boot=tag:ipxe,{bootfile}")))
                    .args(tftp)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(stderr);
            },
        )?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.dnsmasq_log().contains("started") {
            let over = process.ended()?.is_some() || Instant::now() > deadline;
            ensure!(!over, "dnsmasq did not start:\n{}", self.dnsmasq_log());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::io::Write::flush(&mut log)?;
        self.dnsmasq = Some(process);
        Ok(())
    }

    /// The log of dnsmasq: every lease and every file.
    pub fn dnsmasq_log(&self) -> String {
        fs::read_to_string(self.tftp.path().join("dnsmasq.log")).unwrap_or_default()
    }

    fn ip(&self, line: &str) -> Result<()> {
        process::output("ip", ["-n", &self.netns].into_iter().chain(line.split(' ')))
            .with_context(|| format!("ip {line}, in a network namespace"))?;
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.dnsmasq = None;
        // What can't be removed now is removed by the next run.
        let _ = process::output("ip", ["netns", "delete", &self.netns]);
    }
}

/// Removes the namespaces of runs that were killed.
fn remove_leftovers() {
    let Ok(names) = fs::read_dir("/run/netns") else {
        return;
    };
    for name in names.flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test run may be removing it too.
            let _ = process::output("ip", ["netns", "delete", &name]);
        }
    }
}
