//! Starts a Kubernetes API server for experiments.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use e2e::cluster::Cluster;
use e2e::manifests::examples;

use crate::stop::Stop;

/// What to start
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Apply the manifests of examples/quickstart as well
    #[arg(long)]
    examples: bool,
    /// Only build etcd, kube-apiserver and kubectl, and say where they are
    #[arg(long, conflicts_with = "examples")]
    build_only: bool,
}

/// Starts it, prints how to use it, and stops it on Ctrl-C.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.build_only {
        println!("{}", e2e::cluster::Programs::find()?.folder().display());
        return Ok(());
    }
    // Built before signals are caught: Ctrl-C ends a build at once.
    e2e::cluster::Programs::find()?;
    let mut stop = Stop::listen()?;
    println!("cluster: starting etcd and kube-apiserver");
    let cluster = Cluster::start()?;
    if args.examples {
        let folder = examples("quickstart");
        print!(
            "{}",
            cluster.kubectl(["apply".as_ref(), "-f".as_ref(), folder.as_os_str()])?
        );
    }
    let controller = cluster.controller()?;
    let environment = write_environment(&cluster)?;
    println!(
        "\ncluster: ready at {server}, with the kinds of config/crd and the roles of config/rbac. In another terminal:\n\n  \
         . {environment}\n  kubectl apply -f examples/quickstart\n  kubectl get shaper\n  kubectl explain assignment.spec\n\n\
         You are its administrator there. The controller's own identity is KUBECONFIG={controller}\n\
         Logs and certificates are in {folder}. Ctrl-C takes all of it down.\n",
        server = cluster.server(),
        environment = environment.display(),
        controller = controller.kubeconfig().display(),
        folder = cluster.folder().display(),
    );
    stop.wait();
    println!("\ncluster: taking it down");
    drop(cluster);
    Ok(())
}

/// Writes a file for a shell to source that selects the cluster; removed with the cluster.
pub(crate) fn write_environment(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let path = cluster.folder().join("environment");
    let mut text = String::new();
    for (name, value) in cluster.environment() {
        let rest = if name == "PATH" { ":\"$PATH\"" } else { "" };
        text.push_str(&format!(
            "export {name}={}{rest}\n",
            quote(&value.display().to_string())
        ));
    }
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
