//! `cargo xtask cluster` and `cargo xtask dev` in a terminal: started, used, and ended by Ctrl-C.

use anyhow::{Context, Result, ensure};
use e2e::cluster::Programs;
use e2e::http;
use e2e::process::{self, Process};
use e2e::server::{Log, binary};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starting takes seconds, plus what cargo compiles.
const START: Duration = Duration::from_mins(10);

/// A running xtask command in its own terminal.
struct Terminal {
    process: Process,
    log: Log,
    /// The parent of its temporary folders.
    temporary: tempfile::TempDir,
}

/// A process that the command started.
#[derive(Debug)]
struct Child {
    pid: u32,
    command: String,
}

// === impl Terminal ===

impl Terminal {
    fn start(args: &[&str], assets: Option<&Path>) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut process = Process::start("cargo xtask", env!("CARGO").as_ref(), None, |command| {
            command
                .args(["xtask"])
                .args(args)
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            command
                .env("TMPDIR", temporary.path())
                .env_remove("KUBECONFIG")
                .env_remove("KUBEBUILDER_ASSETS");
            command.envs(assets.map(|assets| ("KUBEBUILDER_ASSETS", assets)));
            if let Ok(binary) = binary() {
                command.env("SHAPER_BIN", binary);
            }
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0);
        })?;
        let log = Log::default();
        log.read(
            process
                .child()
                .stdout
                .take()
                .context("its output is piped")?,
        );
        Ok(Self {
            process,
            log,
            temporary,
        })
    }

    /// Waits for a line and returns it.
    fn says(&self, part: &str) -> Result<String> {
        self.log
            .wait_for(START, |line| line.contains(part))
            .with_context(|| format!("no line says {part:?}:\n{}", self.log.text()))
    }

    /// The output of a shell that has sourced the environment file.
    fn shell(&self, script: &str) -> Result<String> {
        let line = self.says("/environment")?;
        let out = Command::new("sh")
            .args(["-ec", &format!("{line}\n{script}")])
            .env_remove("KUBECONFIG")
            .output()?;
        ensure!(
            out.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8(out.stdout)?)
    }

    fn children(&self) -> Result<Vec<Child>> {
        let task = format!("/proc/{0}/task", self.process.id());
        let mut children = Vec::new();
        for thread in fs::read_dir(task)? {
            for pid in fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
                let command =
                    fs::read_to_string(format!("/proc/{pid}/cmdline"))?.replace('\0', " ");
                children.push(Child {
                    pid: pid.parse()?,
                    command,
                });
            }
        }
        Ok(children)
    }

    /// Presses Ctrl-C, which all programs of the terminal receive, and checks that nothing is left.
    fn end(mut self, addresses: &[String]) -> Result<()> {
        let children = self.children()?;
        ensure!(
            children.len() >= 2,
            "etcd and kube-apiserver are its children: {children:?}"
        );
        for address in addresses {
            TcpStream::connect(address)
                .with_context(|| format!("somebody listens at {address}"))?;
        }
        ensure!(
            fs::read_dir(self.temporary.path())?.count() > 0,
            "its folders are where it was told to make them"
        );
        process::output("kill", ["-INT", "--", &format!("-{}", self.process.id())])?;
        let status = self.process.wait(Duration::from_mins(2))?;
        ensure!(
            status.success(),
            "it ended with {status}:\n{}",
            self.log.text()
        );
        for child in children {
            let left = fs::read_to_string(format!("/proc/{}/cmdline", child.pid))
                .unwrap_or_default()
                .replace('\0', " ");
            ensure!(left != child.command, "this still runs: {child:?}");
        }
        for address in addresses {
            ensure!(
                TcpStream::connect(address).is_err(),
                "somebody still listens at {address}"
            );
        }
        let left: Vec<_> = fs::read_dir(self.temporary.path())?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        ensure!(left.is_empty(), "these are left: {left:?}");
        Ok(())
    }
}

/// The `HOST:PORT` of the first URL in a line.
fn address(line: &str) -> Result<String> {
    let rest = line
        .split("://")
        .nth(1)
        .with_context(|| format!("no URL in {line}"))?;
    Ok(rest
        .split(['/', ',', '\'', ' '])
        .next()
        .unwrap_or_default()
        .to_owned())
}

#[test]
fn cluster_and_dev_run_at_once_and_leave_nothing_behind() -> Result<()> {
    // Programs that exist already, in another folder than the cache.
    let assets = tempfile::tempdir()?;
    let programs = Programs::find()?;
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        symlink(programs.folder().join(name), assets.path().join(name))?;
    }
    let cluster = Terminal::start(&["cluster", "--examples"], Some(assets.path()))?;
    let dev = Terminal::start(&["dev", "--no-machine"], None)?;
    let of_cluster = address(&cluster.says("cluster: ready at")?)?;
    dev.says("All of it runs until Ctrl-C")?;

    // Each command has its own API server, and kubectl finds it.
    let servers = [&cluster, &dev].map(|terminal| {
        terminal.shell("kubectl config view -o 'jsonpath={.clusters[0].cluster.server}'")
    });
    let [first, second] = servers;
    let (first, of_dev) = (address(&first?)?, address(&second?)?);
    assert_eq!(first, of_cluster);
    ensure!(of_dev != of_cluster, "both are at {of_dev}");
    for terminal in [&cluster, &dev] {
        ensure!(
            terminal
                .shell("kubectl get shaper -o name")?
                .contains("assignment.shaper.amahdha.com/web-1"),
            "the examples are applied"
        );
    }
    ensure!(
        cluster.shell("command -v kubectl")?.trim()
            == assets.path().join("kubectl").display().to_string(),
        "it is that of the assets"
    );
    for name in ["etcd", "kube-apiserver"] {
        let program = assets.path().join(name).display().to_string();
        let children = cluster.children()?;
        ensure!(
            children
                .iter()
                .any(|child| child.command.starts_with(&program)),
            "{name} is that of the assets: {children:?}"
        );
    }

    // The Assignment decides, and only controllers of this API server know it.
    let url = dev.says("curl 'http")?.replace("curl", "");
    let url = url.trim().trim_matches('\'');
    let answer = http::get(url)?;
    ensure!(
        answer.status == 200 && answer.body.starts_with("#!ipxe"),
        "{answer:?}"
    );
    let warned = dev.shell("kubectl delete assignment web-1 --dry-run=server 2>&1")?;
    ensure!(
        warned.contains("Warning: Assignment web-1"),
        "the webhook is asked: {warned}"
    );

    let of_machines = address(url)?;
    dev.end(&[of_dev, of_machines])?;
    ensure!(
        cluster
            .shell("kubectl get shaper -o name")?
            .contains("web-1"),
        "the other goes on"
    );
    cluster.end(&[of_cluster])
}

#[test]
fn kubebuilder_assets_without_a_program_are_reported_and_not_used() -> Result<()> {
    let assets = tempfile::tempdir()?;
    fs::write(assets.path().join("etcd"), "")?;
    let out = Command::new(env!("CARGO"))
        .args(["xtask", "cluster", "--build-only"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("KUBEBUILDER_ASSETS", assets.path())
        .output()?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    ensure!(
        out.status.success() && stderr.contains("which has no kube-apiserver: not using it"),
        "{stderr}"
    );
    ensure!(
        Path::new(stdout.trim()).join("kube-apiserver").is_file(),
        "{stdout}"
    );
    Ok(())
}
