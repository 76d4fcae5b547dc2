//! Runs all of shaper on this computer as in Kubernetes: a cluster, every role with its identity,
//! and a machine that boots.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::assets::{Linux, Package, ensure_packages};
use e2e::cluster::{Cluster, Programs};
use e2e::files::Files;
use e2e::machine::Machine;
use e2e::manifests::examples;
use e2e::roles::{FeedCertificates, Role, WebhookCertificates, eventually};

use crate::cluster::write_environment;
use crate::demo::{QUERY, UUID, build_shaper, stream};
use crate::stop::Stop;

/// How to start it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Boot no virtual machine
    #[arg(long)]
    no_machine: bool,
    /// Show what the roles log
    #[arg(long)]
    logs: bool,
}

/// Starts everything, boots a machine, and stops on Ctrl-C.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    say("building shaper");
    build_shaper()?;
    say("building etcd, kube-apiserver and kubectl, unless they are there");
    Programs::find()?;
    let linux = if args.no_machine {
        None
    } else {
        say("looking for QEMU, a kernel and an initrd");
        ensure_packages(&[Package::Qemu, Package::IpxeRoms])?;
        Some(Linux::find()?)
    };
    // From here on Ctrl-C stops everything in order.
    let mut stop = Stop::listen()?;
    say(
        "starting etcd and kube-apiserver, with RBAC, the kinds of config/crd and the role of config/rbac",
    );
    let cluster = Cluster::start()?;
    let certificates = FeedCertificates::new()?;
    let files = linux
        .as_ref()
        .map(|linux| Files::serve(linux.folder()))
        .transpose()?;
    let assets = files.as_ref().map_or_else(
        || "http://assets.invalid".to_owned(),
        Files::url_for_user_network,
    );

    say(
        "starting two controllers (as the service account of config/rbac), two API servers, a webhook and a TFTP server (without credentials)",
    );
    let controller = Role::controller(&cluster, certificates.controller.path())?;
    let controllers = [controller.start_ready()?, controller.start_ready()?];
    let state = tempfile::tempdir().context("can't make a temporary folder")?;
    let api = |number: &str| {
        let builder = Role::api(
            &controllers,
            certificates.api.path(),
            &state.path().join(number),
        )?;
        builder
            .args(["--label", &format!("assets={assets}")])
            .start_ready()
    };
    let replicas = [api("1")?, api("2")?];
    let port = replicas[0].address("http_listen")?.port();
    let tftp = Role::builder("tftp")
        .args([
            "--tftp-listen",
            "127.0.0.1:0",
            "--http-port",
            &port.to_string(),
        ])
        .start()?;
    let webhook_certificates = WebhookCertificates::new()?;
    let webhook = Role::webhook(
        &controllers,
        certificates.webhook.path(),
        webhook_certificates.directory.path(),
    )?
    .start_ready()?;
    if args.logs {
        for (name, role) in [
            ("controller-1", &controllers[0]),
            ("controller-2", &controllers[1]),
            ("api-1", &replicas[0]),
            ("api-2", &replicas[1]),
            ("webhook", &webhook),
            ("tftp", &tftp),
        ] {
            role.log().print_as(name);
        }
    }

    say("shaper webhook-configuration --url ... --ca-file ... | kubectl apply -f -");
    print!(
        "{}",
        cluster
            .admin()
            .apply(&webhook.webhook_configuration(&webhook_certificates.authority)?)?
    );
    say("kubectl apply -f examples/quickstart");
    let folder: OsString = examples("quickstart").into();
    let applied = cluster
        .admin()
        .answer(["apply".into(), "-f".into(), folder], "")?;
    print!("{}", applied.stderr);
    print!("{}", applied.into_result()?);
    println!(
        "(The warnings are the webhook's: kubectl goes by the names of files, so that the Assignments were there before their Profiles.)"
    );
    eventually(
        Duration::from_secs(30),
        "the API servers serve the examples",
        || {
            Ok(replicas
                .iter()
                .all(|replica| replica.get(QUERY).is_ok_and(|answer| answer.status == 200))
                .then_some(()))
        },
    )?;
    let mut again = String::new();
    if linux.is_some() {
        let bootfile = format!("http://10.0.2.2:{port}/boot.ipxe");
        again = format!(
            "The machine, switched on once more (Ctrl-A X pulls the plug):\n\n  \
             qemu-system-x86_64 -accel tcg -cpu max -m 512 -nographic -no-reboot -uuid {UUID} \\\n    \
             -netdev user,id=n,bootfile={bootfile} -device virtio-net-pci,netdev=n -boot n\n\n"
        );
        say(&format!(
            "switching on a machine with the UUID {UUID}; DHCP tells it to boot {bootfile}"
        ));
        let machine = Machine::on_user_network(&bootfile).uuid(UUID).boot()?;
        stream(machine.console())?;
        let config = machine
            .console()
            .between(Linux::BEGIN, Linux::END)
            .context("the machine did not print its config")?;
        ensure!(
            config.contains(UUID),
            "the config that the machine printed is not its own:\n{config}"
        );
        say(
            "it booted what kubectl applied: Linux fetched the Ignition config that the Assignment web-1 gives it",
        );
    }

    let environment = write_environment(&cluster)?;
    let (url, why) = (
        replicas[0].url(QUERY)?,
        format!(
            "http://{}{}",
            replicas[0].address("admin_listen")?,
            QUERY.replace("/ipxe", "/explain")
        ),
    );
    println!(
        "\nAll of it runs until Ctrl-C. In another terminal:\n\n  \
         . {environment}\n  kubectl get shaper -o wide\n  kubectl describe assignment web-1\n  \
         kubectl delete assignment web-1 --dry-run=server    # the webhook says who would boot what\n  \
         sed 's/{{{{ ignition }}}}/{{{{ ignitoin }}}}/' examples/quickstart/profiles.yaml | kubectl apply -f -    # it refuses a mistake\n  \
         curl '{url}'\n  curl '{why}'\n\n\
         {again}Change something: kubectl edit profile linux-ignition, and ask again. Then stop Kubernetes and ask again:\n\n  \
         kill -STOP {api_server}    # kube-apiserver; -CONT lets it go on\n  kill -9 {one} {two}    # both controllers\n  \
         kill -9 {webhook}    # the webhook: objects are written, schema and CEL still refuse, conditions say the rest\n\n\
         The API servers: {first}, {second}. TFTP: {tftp}. The webhook's metrics: http://{metrics}/metrics\n",
        environment = environment.display(),
        api_server = cluster
            .pid(e2e::cluster::Part::ApiServer)
            .context("kube-apiserver runs")?,
        one = controllers[0].pid(),
        two = controllers[1].pid(),
        webhook = webhook.pid(),
        first = replicas[0].url("")?,
        second = replicas[1].url("")?,
        tftp = tftp.address("tftp_listen")?,
        metrics = webhook.address("admin_listen")?,
    );
    stop.wait();
    say("taking it down");
    Ok(())
}

fn say(text: &str) {
    println!("\ndev: {text}");
}
