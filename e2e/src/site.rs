//! A whole site: a cluster, controllers, API replicas behind a balancer, and machines that boot
//! from them.

use crate::cluster::{Cluster, Kubectl, NAMESPACE};
use crate::load::{Balancer, Load, Machine};
use crate::manifests::{assignment, profile};
use crate::roles::{FeedCertificates, Role, eventually};
use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The timeout of every wait.
pub const SOON: Duration = Duration::from_secs(30);
/// The number of machines that boot at once.
const AT_ONCE: usize = 6;

/// A cluster, controllers on fixed ports, and API replicas.
#[derive(Debug)]
pub struct Site {
    /// The Kubernetes API server.
    pub cluster: Cluster,
    /// kubectl as an operator, in a namespace of this site.
    pub kubectl: Kubectl,
    /// The certificates of the feed.
    pub certificates: FeedCertificates,
    /// The controllers; some may have been killed.
    pub controllers: Vec<Role>,
    /// The replicas behind the balancer.
    pub replicas: Vec<Role>,
    ports: Vec<u16>,
    state: tempfile::TempDir,
}

/// A Profile whose script prints these words and its Assignment's name, and links to a config.
pub fn linked(name: &str, words: &str) -> String {
    profile(
        name,
        &format!(
            "#!ipxe\necho {words}\necho by {{{{ assignment.name }}}}\nchain {{{{ config }}}}\n"
        ),
    ) + "  additionalConfig:\n    config: 'for {{ subject.serial }}'\n"
}

/// The serial number of a machine of the site.
pub fn serial(number: usize) -> String {
    format!("SN-{number}")
}

// === impl Site ===

impl Site {
    /// Starts everything and waits until it is ready.
    pub fn start(controllers: usize, replicas: usize) -> Result<Self> {
        let cluster = Cluster::start()?;
        let certificates = FeedCertificates::new()?;
        let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
        let ports = (0..controllers)
            .map(|_| free_port())
            .collect::<Result<_>>()?;
        let state = tempfile::tempdir()?;
        let mut site = Self {
            cluster,
            kubectl,
            certificates,
            controllers: Vec::new(),
            replicas: Vec::new(),
            ports,
            state,
        };
        for number in 0..controllers {
            site.controllers.push(site.controller(number)?);
        }
        for number in 0..replicas {
            site.replicas.push(site.replica(number)?);
        }
        Ok(site)
    }

    /// Starts a controller on the port of this number.
    pub fn controller(&self, number: usize) -> Result<Role> {
        let port = self
            .ports
            .get(number)
            .context("the site has no such controller")?;
        let kubectl = self.cluster.controller()?;
        Role::builder("controller")
            .args([
                "--feed-listen",
                &format!("127.0.0.1:{port}"),
                "--lease-namespace",
                NAMESPACE,
            ])
            .args(["--kubeconfig".as_ref(), kubectl.kubeconfig().as_os_str()])
            .args([
                "--feed-tls-dir".as_ref(),
                self.certificates.controller.path().as_os_str(),
            ])
            .start_ready()
    }

    /// Kills a controller with SIGKILL and starts another in its place.
    pub fn replace_controller(&mut self, number: usize) -> Result<()> {
        let killed = self.controllers.remove(number);
        killed.signal("KILL")?;
        // Waits for the end of the process, which frees its port.
        drop(killed);
        let controller = self.controller(number)?;
        self.controllers.insert(number, controller);
        Ok(())
    }

    /// Starts a replica with the state directory of this number.
    pub fn replica(&self, number: usize) -> Result<Role> {
        let mut builder = Role::api([], self.certificates.api.path(), &self.state_of(number))?;
        for port in &self.ports {
            builder = builder.args(["--feed", &format!("https://localhost:{port}")]);
        }
        builder.start_ready()
    }

    fn state_of(&self, number: usize) -> std::path::PathBuf {
        Path::new(self.state.path()).join(number.to_string())
    }

    /// Applies one Profile, an Assignment for each of some machines, and a default that would
    /// reinstall them: a machine that gets the default counts as failed. Waits until all replicas
    /// serve the last machine.
    pub fn fill(&self, machines: usize) -> Result<()> {
        let mut all = vec![
            linked("first", "BOOT-first"),
            linked("installs", "INSTALL"),
            assignment("everybody", "", "installs"),
        ];
        all.extend((0..machines).map(|n| {
            assignment(
                &format!("machine-{n}"),
                &format!("serialNumbers: [{}]", serial(n)),
                "first",
            )
        }));
        self.kubectl.apply(&all.join("---\n"))?;
        self.served(&serial(machines - 1), "BOOT-first")
    }

    /// Waits until all replicas serve this text to a machine.
    pub fn served(&self, serial: &str, text: &str) -> Result<()> {
        self.served_within(SOON, serial, text)
    }

    /// Like [`Site::served`], with a timeout.
    pub fn served_within(&self, limit: Duration, serial: &str, text: &str) -> Result<()> {
        for replica in &self.replicas {
            eventually(limit, &format!("{serial} gets {text}"), || {
                let answer = replica.get(&format!("/ipxe?serial={serial}"))?;
                Ok((answer.status == 200 && answer.body.contains(text)).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Boots this many of the site's machines from now on.
    pub fn load(&self, machines: usize) -> Result<Load> {
        Ok(Self::load_behind(Balancer::of(&self.replicas)?, machines))
    }

    /// Like [`Site::load`], behind a balancer to which replicas can be added.
    pub fn load_behind(balancer: Arc<Balancer>, machines: usize) -> Load {
        let machine = |n| Machine {
            query: format!("serial={}", serial(n)),
            script: vec!["echo BOOT-".into(), format!("echo by machine-{n}\n")],
            config: format!("for {}", serial(n)),
        };
        Load::start(balancer, (0..machines).map(machine).collect(), AT_ONCE)
    }

    /// Checks that all replicas are ready and report how long they have not heard of Kubernetes.
    pub fn tells_its_age(&self) -> Result<()> {
        for replica in &self.replicas {
            eventually(SOON, "the age of the snapshot rises", || {
                let metrics = replica.admin("/metrics")?.body;
                let ages = metrics
                    .lines()
                    .filter(|line| line.contains("snapshot_age_seconds") && !line.starts_with('#'));
                let ages: Vec<f64> = ages
                    .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
                    .collect();
                Ok(ages.iter().any(|age| *age >= 2.0).then_some(()))
            })?;
            let ready = replica.admin("/readyz")?;
            ensure!(ready.status == 200, "{ready:?}");
        }
        Ok(())
    }

    /// Checks that a change still arrives.
    pub fn still_follows(&self, word: &str) -> Result<()> {
        self.kubectl
            .apply(&linked("first", &format!("BOOT-{word}")))?;
        self.served(&serial(0), &format!("BOOT-{word}"))
    }
}

/// Finds a free port to listen on later.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
