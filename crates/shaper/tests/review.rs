//! Runs `shaper validate`, `explain` and `diff` as processes: bad input, exit codes, and queries to
//! a running replica.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/quickstart");
const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/seed");
const MACHINE: &str = "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&buildarch=x86_64";

/// Names and contents of files.
type Files<'f> = &'f [(&'f str, &'f [u8])];

fn shaper(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shaper"));
    command
        .args(args)
        .env_remove("SHAPER_LABEL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that needs no input may have exited already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// Returns the exit code, standard output and standard error.
fn run(args: &[&str], stdin: &str) -> (i32, String, String) {
    let output = shaper(args, stdin);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn folder(files: Files<'_>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn validate(dir: &Path) -> (i32, String) {
    let (code, out, err) = run(&["validate", dir.to_str().unwrap()], "");
    assert_eq!(err, "");
    (code, out)
}

#[test]
fn the_examples_have_no_findings() {
    for example in [QUICKSTART, SEED] {
        let (code, out) = validate(Path::new(example));
        assert_eq!(code, 0, "{out}");
        assert!(out.starts_with("no problems; "), "{out}");
    }
}

#[test]
fn bad_input_is_rejected_with_advice() {
    let profile = "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Profile\nmetadata: {name: NAME}\nspec: {ipxe: x}\n";
    let cases: &[(Files<'_>, i32, &str)] = &[
        (&[], 1, "no *.yaml, *.yml or *.json file in "),
        (
            &[(
                "a.yaml",
                b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
            )],
            1,
            "only 1 objects of other kinds",
        ),
        (
            &[("a.yaml", b"a: \xff\n")],
            1,
            "error[file]: the file is not UTF-8; save it as UTF-8\n",
        ),
        (
            &[(
                "a.yaml",
                profile
                    .replace("NAME", "{{ .Values.name }}")
                    .leak()
                    .as_bytes(),
            )],
            1,
            "this looks like a Helm template; render it first with `helm template`",
        ),
        (
            &[(
                "a.yaml",
                profile
                    .replace("NAME", "\"{{ .Values.name }}\"")
                    .leak()
                    .as_bytes(),
            )],
            1,
            "help: this looks like a Helm template; render it first with `helm template`",
        ),
        (
            &[("kustomization.yaml", b"resources: [base]\n")],
            1,
            "warning[unrendered]: this is a kustomization, which is not applied here; check its output with `kustomize build ",
        ),
        (
            &[
                ("Chart.yaml", b"apiVersion: v2\nname: x\n"),
                ("values.yaml", b"a: 1\n"),
                ("templates/a.yaml", b"{{ if .x }}\n"),
            ],
            1,
            "warning[unrendered]: this is a Helm chart, which is not rendered here; check its output with `helm template ",
        ),
    ];
    for (files, code, says) in cases {
        let dir = folder(files);
        let (got, out) = validate(dir.path());
        assert!(out.contains(says), "{says}\n{out}");
        assert_eq!(got, *code, "{out}");
    }
}

#[test]
fn missing_input_is_named() {
    let (code, out, _) = run(&["validate", "/does/not/exist"], "");
    assert_eq!(code, 1);
    assert!(
        out.starts_with("error[file]: can't be read: No such file or directory"),
        "{out}"
    );
    for args in [
        &["explain", "/does/not/exist", "uuid=1"][..],
        &["diff", "/does/not/exist", QUICKSTART],
        &["validate"],
    ] {
        let (code, _, err) = run(args, "");
        assert_eq!(code, 2, "{err}");
    }
}

#[test]
fn a_list_of_kubectl_is_read_from_standard_input() {
    let one = fs::read_to_string(Path::new(SEED).join("profile.yaml")).unwrap();
    let two = fs::read_to_string(Path::new(SEED).join("assignment.yaml")).unwrap();
    let item = |text: &str| format!("- {}\n", text.trim_end().replace('\n', "\n  "));
    let list = format!(
        "apiVersion: v1\nitems:\n{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n",
        item(&one),
        item(&two)
    );
    let (code, out, _) = run(&["validate", "-"], &list);
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            "no problems; 1 file, 1 Assignment and 1 Profile checked\n"
        )
    );
    let (code, out, _) = run(&["validate", "-"], &list.replace("uuids:", "uuid:"));
    assert_eq!(code, 1);
    assert!(
        out.contains("--> <stdin>:") && out.contains("did you mean `uuids`?"),
        "{out}"
    );
}

#[test]
fn strict_makes_warnings_fail_and_formats_are_json() {
    let one = fs::read_to_string(Path::new(SEED).join("profile.yaml")).unwrap();
    let codes = |args: &[&str]| run(args, &one).0;
    assert_eq!(
        (
            codes(&["validate", "-"]),
            codes(&["validate", "--strict", "-"])
        ),
        (0, 1)
    );
    for format in ["json", "sarif"] {
        let (_, out, _) = run(&["validate", "-o", format, "-"], &one);
        serde_json::from_str::<Value>(&out).unwrap();
    }
}

#[test]
fn output_to_a_pipe_is_not_coloured() {
    let (_, out, _) = run(&["validate", "-"], "x: 1\n");
    assert!(!out.contains('\x1b'), "{out}");
}

#[test]
fn help_completions_and_man_pages_cover_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = run(&["completions", shell], "");
        assert!(code == 0 && out.contains("validate"), "{shell}");
    }
    let (code, out, _) = run(&["man", "explain"], "");
    assert!(code == 0 && out.contains(".TH shaper-explain 1"), "{out}");
    let (code, _, err) = run(&["man", "explian"], "");
    assert!(
        code == 1 && err.contains("did you mean `explain`?"),
        "{err}"
    );
    for command in ["validate", "explain", "diff"] {
        let (_, out, _) = run(&[command, "--help"], "");
        assert!(
            out.contains("Exit code:") && out.contains("shaper "),
            "{out}"
        );
    }
}

#[test]
fn explain_shows_the_winner_and_what_the_machine_gets() {
    let (code, out, err) = run(&["explain", QUICKSTART, MACHINE], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "\
boots Profile default/linux-ignition by Assignment default/web-1

The machine
  buildarch  x86_64
  uuid       47c6da67-7477-4970-aa03-84e48ff4f6ad

Assignments, in order
  won       default/web-1    ranks first, matched by uuid
  lost      default/default  default/web-1 matches by uuid, this one by labels

Profiles that default/web-1 selects
  won       default/linux-ignition  1 of its assignment/ labels match
"
    );
    let url = format!("http://192.0.2.1/ipxe?{MACHINE}");
    let (code, out, _) = run(
        &[
            "explain",
            QUICKSTART,
            &url,
            "--extrinsic",
            "assets=http://a",
            "--script",
        ],
        "",
    );
    assert!(
        code == 0 && out.starts_with("#!ipxe\n") && out.contains("kernel http://a/vmlinuz "),
        "{out}"
    );
    let (code, out, _) = run(
        &["explain", QUICKSTART, MACHINE, "--config", "ignition"],
        "",
    );
    assert!(
        code == 0 && out.contains("data:,47c6da67-7477-4970-aa03-84e48ff4f6ad"),
        "{out}"
    );
    let (code, _, err) = run(&["explain", QUICKSTART, MACHINE, "--config", "igniton"], "");
    assert!(
        code == 2 && err.contains("has no config \"igniton\" (did you mean `ignition`?)"),
        "{err}"
    );
    let (code, out, _) = run(
        &[
            "explain",
            QUICKSTART,
            MACHINE,
            "-o",
            "json",
            "--script",
            "--extrinsic",
            "assets=http://a",
        ],
        "",
    );
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["outcome"]["answer"]),
        (0, &Value::from("boots"))
    );
    assert!(json["script"].as_str().unwrap().starts_with("#!ipxe\n"));
}

#[test]
fn explain_rejects_bad_queries_with_advice() {
    let (code, out, _) = run(&["explain", SEED, "serial=unknown-to-all"], "");
    assert!(
        code == 1 && out.starts_with("boots nothing: no Assignment matches this machine"),
        "{out}"
    );
    let (code, _, err) = run(&["explain", QUICKSTART, "prodct=R640"], "");
    assert!(
        code == 0
            && err.contains("no Assignment, Profile or template uses the label \"prodct\" (did you mean `product`?)"),
        "{err}"
    );
    let (code, _, err) = run(&["explain", QUICKSTART, "uuid=nonsense"], "");
    assert!(
        code == 2 && err.contains("uuid \"nonsense\" is not a UUID"),
        "{err}"
    );
    let (code, _, err) = run(&["explain", QUICKSTART], "");
    assert!(code == 2 && err.contains("pass a machine"), "{err}");
    // A machine can't present an extrinsic label.
    let (_, own, _) = run(
        &[
            "explain",
            SEED,
            "--label",
            "region=us-mex",
            "--label",
            "serial=c4a94672-05a1-4eda-a186-b4aa4544b146",
        ],
        "",
    );
    let (_, set, _) = run(
        &[
            "explain",
            SEED,
            "--extrinsic",
            "region=us-mex",
            "serial=c4a94672-05a1-4eda-a186-b4aa4544b146",
        ],
        "",
    );
    assert!(
        own.starts_with("boots Profile default/your-profile"),
        "{own}"
    );
    assert!(
        set.contains("your-profile requires region=us-cal, but the machine has us-mex"),
        "{set}"
    );
}

#[test]
fn diff_sets_its_exit_code_and_rejects_invalid_objects() {
    let new = folder(&[]);
    for file in ["assignments.yaml", "profiles.yaml"] {
        let text = fs::read_to_string(Path::new(QUICKSTART).join(file)).unwrap();
        fs::write(
            new.path().join(file),
            text.replace("role: rescue", "role: local-disk"),
        )
        .unwrap();
    }
    let new_path = new.path().to_str().unwrap();
    let (code, out, _) = run(&["diff", QUICKSTART, new_path], "");
    assert!(
        code == 0 && out.contains("1 MAC address: default/rescue -> default/"),
        "{out}"
    );
    assert_eq!(run(&["diff", "--exit-code", QUICKSTART, new_path], "").0, 1);
    let (code, out, _) = run(&["diff", "--exit-code", QUICKSTART, QUICKSTART], "");
    assert_eq!(
        (code, out.as_str()),
        (0, "no machine boots anything else\n")
    );
    let (_, out, _) = run(&["diff", "-o", "json", QUICKSTART, new_path], "");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["groups"][0]["macAddresses"][0], "52:54:00:00:00:03");
    fs::write(new.path().join("wrong.yaml"), "x: 1\n").unwrap();
    let (code, _, err) = run(&["diff", QUICKSTART, new_path], "");
    assert!(
        code == 2 && err.contains("has 1 error; run `shaper validate "),
        "{err}"
    );
}

/// A running `shaper standalone`, ended when dropped.
struct Standalone {
    child: Child,
    admin: SocketAddr,
    _state: tempfile::TempDir,
}

impl Standalone {
    fn start() -> Self {
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (http, admin) = (free(), free());
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shaper"));
        command
            .args(["standalone", QUICKSTART, "--label", "assets=http://a"])
            .arg("--state-dir")
            .arg(state.path());
        command.args([
            "--http-listen",
            &http.to_string(),
            "--admin-listen",
            &admin.to_string(),
        ]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let standalone = Self {
            child,
            admin,
            _state: state,
        };
        let started = Instant::now();
        while !standalone.get("/readyz").contains("200 OK") {
            assert!(
                started.elapsed() < Duration::from_mins(1),
                "it is never ready"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        standalone
    }

    fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.admin) else {
            return String::new();
        };
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn explain_and_diff_query_a_running_replica() {
    let standalone = Standalone::start();
    let admin = format!("http://{}", standalone.admin);
    let ask = |args: &[&str]| run(&[&["explain", "--admin", &admin][..], args].concat(), "");
    // The folder gives the same words.
    assert_eq!(
        ask(&[MACHINE, "-o", "text"])
            .1
            .replace("  assets     http://a\n", ""),
        run(&["explain", QUICKSTART, MACHINE], "").1
    );
    let (code, script, _) = ask(&[MACHINE, "--script"]);
    assert!(
        code == 0 && script.contains("kernel http://a/vmlinuz "),
        "{script}"
    );
    let (code, config, _) = ask(&[MACHINE, "--config", "ignition"]);
    assert!(code == 0 && config.contains("/etc/hostname"), "{config}");
    let (code, _, err) = ask(&[MACHINE, "--config", "nothing"]);
    assert!(
        code == 1 && err.contains("has no config \"nothing\""),
        "{err}"
    );

    // The replica serves what the folder contains, and its list has no config ids.
    let diff = |new: &str| run(&["diff", "--exit-code", "--admin", &admin, new], "");
    assert_eq!(
        diff(QUICKSTART),
        (
            0,
            "no machine boots anything else\n".to_owned(),
            String::new()
        )
    );
    let (code, out, _) = diff(SEED);
    assert!(code == 1 && out.contains("-> nothing"), "{out}");
    let catalog = standalone.get("/catalog");
    let id = script
        .split("/config/")
        .nth(1)
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        catalog.contains("200 OK") && catalog.contains("linux-ignition") && !catalog.contains(&id),
        "{id} {catalog}"
    );
    let (code, _, err) = run(
        &["diff", "--admin", &admin, "--partition", "east", SEED],
        "",
    );
    assert!(code == 2 && err.contains("no partition \"east\""), "{err}");
}

#[test]
fn an_unreachable_replica_is_reported() {
    let (code, _, err) = run(&["explain", "--admin", "127.0.0.1:1", MACHINE], "");
    assert!(
        code == 2
            && err.contains(
                "can't reach http://127.0.0.1:1; is it the admin port of a running shaper?"
            ),
        "{err}"
    );
    let (code, _, err) = run(&["explain", "--admin", "https://x", MACHINE], "");
    assert!(
        code == 2 && err.contains("the admin port speaks plain HTTP"),
        "{err}"
    );
}

#[test]
fn explain_shows_a_machine_with_an_invalid_object_as_waiting() {
    let head = "apiVersion: shaper.amahdha.com/v1alpha1\nkind:";
    let default = format!(
        "{head} Profile\nmetadata: {{name: p}}\nspec: {{ipxe: \"#!ipxe\\n\"}}\n---\n{head} Assignment\nmetadata: {{name: default}}\nspec: {{}}\n"
    );
    let wrong = format!(
        "{head} Assignment\nmetadata: {{name: own}}\nspec: {{subjectSelectors: {{serialNumbers: [S1]}}, prioritty: 7}}\n"
    );
    let dir = folder(&[
        ("default.yaml", default.as_bytes()),
        ("own.yaml", wrong.as_bytes()),
    ]);
    let dir = dir.path().to_str().unwrap();
    let (code, out, err) = run(&["explain", dir, "serial=S1"], "");
    assert_eq!(code, 1, "{out}");
    assert!(
        out.starts_with("boots nothing: Assignment default/own is invalid, so this machine waits until it is fixed: spec.prioritty"),
        "{out}"
    );
    assert!(
        err.contains("has 1 error, and the machines of invalid objects wait"),
        "{err}"
    );
    let (code, out, _) = run(&["explain", dir, "serial=S2"], "");
    assert_eq!(code, 0, "{out}");
    assert!(
        out.starts_with("boots Profile default/p by Assignment default/default"),
        "{out}"
    );
}
