//! kubectl as one user.

use crate::http::{self, Response};
use crate::process::Process;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// kubectl with its own kubeconfig, and so its own identity. The developer's kubeconfig is never
/// read.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) namespace: Option<String>,
}

/// A running `kubectl proxy`, which turns plain HTTP on the loopback address into requests of this
/// user.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    _process: Process,
}

/// The result of a kubectl call.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whether the exit code was 0.
    pub success: bool,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

fn without_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

// === impl Kubectl ===

impl Kubectl {
    /// The same user with another default namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The path of the kubeconfig, for other clients.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `kubectl ARGS` and returns its output; an error contains its standard error.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        self.answer(args, "")?.into_result()
    }

    /// Runs `kubectl ARGS -o json` and returns the parsed output.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Value> {
        let args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .chain(["-o".into(), "json".into()]);
        serde_json::from_str(&self.run(args)?).context("kubectl printed no JSON")
    }

    /// Runs `kubectl apply`; an error contains its standard error.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.answer(["apply", "-f", "-"], yaml)?.into_result()
    }

    /// Runs `kubectl apply --server-side`, which no annotation limits in size. `manager` owns the
    /// fields.
    pub fn apply_server_side(&self, manager: &str, yaml: &str) -> Result<String> {
        self.answer(
            [
                "apply",
                "--server-side",
                "--field-manager",
                manager,
                "-f",
                "-",
            ],
            yaml,
        )?
        .into_result()
    }

    /// Runs `kubectl apply`, which must fail, and returns its standard error.
    pub fn refused(&self, yaml: &str) -> Result<String> {
        let answer = self.answer(["apply", "-f", "-"], yaml)?;
        if answer.success {
            bail!("this was accepted:\n{yaml}");
        }
        Ok(answer.stderr)
    }

    /// Removes the CEL rules from a CRD (`assignments` or `profiles`), as an older shaper would
    /// have installed it.
    pub fn take_rules_out(&self, kind: &str) -> Result<()> {
        let mut definition = self.json(["get", &format!("crd/{kind}.shaper.amahdha.com")])?;
        without_rules(&mut definition);
        self.answer(["replace", "-f", "-"], &definition.to_string())?
            .into_result()?;
        Ok(())
    }

    /// `kubectl auth can-i VERB RESOURCE`.
    pub fn can(&self, verb: &str, resource: &str) -> Result<bool> {
        let answer = self.answer(["auth", "can-i", verb, resource], "")?;
        match answer.stdout.trim() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => bail!(
                "kubectl auth can-i {verb} {resource}: {}{}",
                answer.stdout,
                answer.stderr
            ),
        }
    }

    /// Runs `kubectl ARGS` with text on its standard input and returns the result, failed or not.
    pub fn answer<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: &str,
    ) -> Result<Answer> {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not run {}", self.program.display()))?;
        let mut input = child.stdin.take().context("its standard input is piped")?;
        let text = stdin.to_owned();
        // kubectl may read all input before it writes, or none of it; a thread avoids a deadlock
        // either way.
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let out = child
            .wait_with_output()
            .context("could not read what kubectl says")?;
        // A broken pipe means that kubectl did not read its input.
        let _ = writer.join();
        Ok(Answer {
            success: out.status.success(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Starts `kubectl proxy`, for requests that kubectl itself can't send: its `patch` reads the
    /// object first.
    pub fn proxy(&self) -> Result<Proxy> {
        let mut process =
            Process::start("kubectl proxy", self.program.as_os_str(), None, |command| {
                // The default filter would reject some methods.
                command.args(["proxy", "--port=0", "--reject-methods=^$"]);
                command
                    .env("KUBECONFIG", &self.kubeconfig)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped());
            })?;
        let stdout = process
            .child()
            .stdout
            .take()
            .context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .rsplit(' ')
            .next()
            .filter(|address| address.contains(':'))
            .map(str::to_owned);
        Ok(Proxy {
            address: address.with_context(|| format!("kubectl proxy said {line:?}"))?,
            _process: process,
        })
    }

    /// The command for kubectl as this user, for callers that need its pipes.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command
    }
}

// === impl Proxy ===

impl Proxy {
    /// Sends a request to the API server, such as `PATCH` of `/apis/...` with
    /// `application/merge-patch+json`.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        text: &str,
    ) -> Result<Response> {
        http::send(
            method,
            &format!("http://{}{path}", self.address),
            content_type,
            text,
        )
    }
}

// === impl Answer ===

impl Answer {
    /// Returns the output, or the standard error as an error.
    pub fn into_result(self) -> Result<String> {
        if !self.success {
            bail!("kubectl: {}", self.stderr.trim());
        }
        Ok(self.stdout)
    }
}
