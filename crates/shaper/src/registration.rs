//! `shaper webhook-configuration`: prints the objects that register the webhook at an API server.

use std::path::PathBuf;

use admission::Registration;
use anyhow::{Context, bail};

use inspect::console;

/// Print the objects that register `shaper webhook`, for kubectl apply -f -
///
/// Without flags, prints the files in config/webhook: they use a Service, and a CA that
/// cert-manager injects.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  shaper webhook-configuration | kubectl apply -f -
  shaper webhook-configuration --ca-file ca.crt --namespace boot | kubectl apply -f -
  shaper webhook-configuration --ca-file ca.crt --url https://webhook.lab:8443 | kubectl apply -f -")]
pub struct Args {
    /// The namespace of shaper's Service, Certificate and controller
    #[arg(long, default_value = "shaper-system", value_name = "NAME")]
    namespace: String,
    /// The name of the webhook's Service, and of its cert-manager Certificate
    #[arg(long, default_value = "shaper-webhook", value_name = "NAME")]
    service: String,
    /// URL of the webhook, to use instead of a Service
    #[arg(long, value_name = "https://HOST[:PORT]", requires = "ca_file")]
    url: Option<String>,
    /// CA of the webhook's certificate, in PEM. Default: cert-manager injects it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Prints both configurations.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("can't read --ca-file {}", path.display()))?;
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            bail!("--ca-file {} contains no PEM certificate", path.display());
        }
        Ok(pem)
    };
    let authority = args.ca_file.as_ref().map(read).transpose()?;
    if let Some(url) = args.url.as_ref().filter(|url| !url.starts_with("https://")) {
        bail!("--url {url}: an API server calls webhooks over HTTPS only; write https://");
    }
    let registration = Registration {
        namespace: args.namespace.clone(),
        service: args.service.clone(),
        url: args.url.clone(),
        authority,
    };
    let texts = registration.manifests().map(|(_, text)| text);
    console::print(&texts.join("---\n")).context("can't print")
}
