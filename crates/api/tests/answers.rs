//! Checks the answer of each path without a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use api::{Answer, BaseUrl, BootService, Outcome, Request, openapi};
use boot::{
    Assignment, Catalog, Change, ConfigName, ExtrinsicLabels, ObjectKey, Partial, Profile,
    Rejected, SharedCatalog, SubjectSelectors,
};
use http::Method;

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";
const SCRIPT: &str = "#!ipxe\necho {{ subject.serial }}\nchain {{ ignition }}\n";

fn profile(name: &str, script: &str, configs: &[(&str, &str)]) -> Profile {
    let configs: BTreeMap<ConfigName, String> = configs
        .iter()
        .map(|(name, text)| (name.parse().unwrap(), (*text).to_owned()))
        .collect();
    let labels = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    let mut profile = Profile::compile(
        ObjectKey::new("default", name),
        None,
        &labels,
        script,
        &configs,
    )
    .unwrap();
    profile.ids = configs
        .keys()
        .map(|config| (config.clone(), id(name, config.as_str())))
        .collect();
    profile
}

fn id(profile: &str, config: &str) -> uuid::Uuid {
    let mut bytes = [0x40; 16];
    for (at, byte) in profile.bytes().chain(config.bytes()).enumerate() {
        bytes[at % 16] ^= byte;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn assignment(name: &str, uuid: Option<&str>, profile: &str) -> Assignment {
    Assignment {
        key: ObjectKey::new("default", name),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors {
            uuids: uuid.iter().map(|uuid| uuid.parse().unwrap()).collect(),
            ..SubjectSelectors::default()
        },
        profiles: [("name".to_owned(), profile.to_owned())]
            .into_iter()
            .collect(),
        priority: 0,
        variables: boot::Variables::default(),
    }
}

fn boot_with(
    profiles: Vec<Profile>,
    assignments: Vec<Assignment>,
    public_url: Option<&str>,
) -> BootService {
    let mut catalog = Catalog::new();
    for profile in profiles {
        catalog.apply(Change::Profile(Arc::new(profile)));
    }
    for assignment in assignments {
        catalog.apply(Change::Assignment(Arc::new(assignment)));
    }
    let public_url: Option<BaseUrl> = public_url.map(|url| url.parse().unwrap());
    let boot = BootService::new(
        Arc::new(SharedCatalog::new(catalog)),
        ExtrinsicLabels::default(),
        public_url,
    );
    boot.set_synced();
    boot
}

fn boot() -> BootService {
    let mut half = profile("half", "#!ipxe\n", &[("a", "")]);
    half.ids.clear();
    boot_with(
        vec![
            profile(
                "linux",
                SCRIPT,
                &[
                    (
                        "ignition",
                        "{\"host\": \"{{ subject.hostname | default('none') }}\"}",
                    ),
                    ("meta_data", "instance-id: x\n"),
                ],
            ),
            profile(
                "broken",
                "#!ipxe\n{% for i in range(900) %}{% for j in range(900) %}x{% endfor %}{% endfor %}",
                &[],
            ),
            half,
        ],
        vec![
            assignment("one", Some(UUID), "linux"),
            assignment(
                "two",
                Some("00000000-0000-4000-8000-000000000002"),
                "broken",
            ),
            assignment(
                "three",
                Some("00000000-0000-4000-8000-000000000003"),
                "absent",
            ),
            assignment("four", Some("00000000-0000-4000-8000-000000000004"), "half"),
        ],
        None,
    )
}

fn ask_as(
    boot: &BootService,
    method: &Method,
    target: &str,
    host: Option<&str>,
) -> Answer<'static> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let local: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let catalog = boot.synced();
    boot.answer(
        catalog.as_deref(),
        &Request {
            method,
            path,
            query,
            host,
            scheme: "http",
            local,
        },
    )
    .into_owned()
}

fn ask(boot: &BootService, target: &str) -> Answer<'static> {
    ask_as(boot, &Method::GET, target, Some("shaper.lab:8080"))
}

fn body<'a>(answer: &'a Answer<'_>) -> &'a str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[test]
fn a_script_links_to_its_configs_with_the_machines_own_labels() {
    let answer = ask(&boot(), &format!("/ipxe?serial=SN1&uuid={UUID}&asset="));
    assert_eq!(answer.outcome, Outcome::Ok);
    let id = id("linux", "ignition");
    assert_eq!(
        body(&answer),
        format!(
            "#!ipxe\necho SN1\nchain http://shaper.lab:8080/config/{id}?uuid={UUID}&serial=SN1\n"
        )
    );
}

#[test]
fn the_link_leads_to_the_config_rendered_for_the_machine() {
    let (boot, id) = (boot(), id("linux", "ignition"));
    assert_eq!(
        body(&ask(&boot, &format!("/config/{id}?hostname=a"))),
        r#"{"host": "a"}"#
    );
    assert_eq!(
        body(&ask(&boot, &format!("/config/{id}"))),
        r#"{"host": "none"}"#
    );
}

#[test]
fn a_script_whose_links_would_be_too_long_is_rejected() {
    let boot = boot();
    // Each é takes six times as many bytes in a link, because it is sent raw next to a byte that is
    // not UTF-8.
    let labels = |each: usize| {
        (0..4)
            .map(|n| format!("&k{n}=%E9{}", "é".repeat(each)))
            .collect::<String>()
    };
    let fits = ask(
        &boot,
        &format!("/ipxe?uuid={UUID}&serial=S1{}", labels(150)),
    );
    assert_eq!(fits.outcome, Outcome::Ok, "{:?}", fits.body);
    let link = body(&fits)
        .lines()
        .find_map(|line| line.strip_prefix("chain "))
        .unwrap()
        .to_owned();
    assert_eq!(
        ask(&boot, &link[link.find("/config/").unwrap()..]).outcome,
        Outcome::Ok
    );
    let grows = ask(
        &boot,
        &format!("/ipxe?uuid={UUID}&serial=S1{}", labels(240)),
    );
    assert_eq!(
        (grows.outcome, grows.status().as_u16()),
        (Outcome::TargetTooLong, 414)
    );
    assert!(
        body(&grows).contains("too long for the links of a script"),
        "{:?}",
        grows.body
    );
}

#[test]
fn nocloud_finds_its_files_below_a_config() {
    let (boot, id) = (boot(), id("linux", "ignition"));
    let file = |path: &str| {
        let answer = ask(&boot, &format!("/config/{id}/{path}"));
        (answer.outcome, body(&answer).to_owned())
    };
    assert_eq!(
        file("user-data?hostname=a"),
        (Outcome::Ok, r#"{"host": "a"}"#.to_owned())
    );
    assert_eq!(
        file("hostname=a&serial=1/user-data"),
        (Outcome::Ok, r#"{"host": "a"}"#.to_owned())
    );
    assert_eq!(
        file("hostname=a/meta-data"),
        (Outcome::Ok, "instance-id: x\n".to_owned())
    );
    for optional in ["vendor-data", "network-config", "hostname=a/vendor-data"] {
        assert_eq!(file(optional), (Outcome::Ok, String::new()), "{optional}");
    }
    assert_eq!(file("../linux").0, Outcome::NoConfig);
    let boot = boot_with(vec![profile("p", "#!ipxe\n", &[("a", "")])], vec![], None);
    let answer = ask(
        &boot,
        &format!(
            "/config/{}/serial=1&hostname=h/meta-data",
            self::id("p", "a")
        ),
    );
    assert_eq!(body(&answer), "instance-id: \"1\"\nlocal-hostname: \"h\"\n");
}

#[test]
fn every_failure_has_a_status_and_a_sentence() {
    let boot = boot();
    let cases = [
        ("/ipxe?uuid=x".to_owned(), 400, "is not a UUID"),
        (
            format!("/ipxe?uuid={UUID}&serial=1&serial=2"),
            400,
            "contains \"serial\" twice",
        ),
        (
            format!("/ipxe?uuid={UUID}&serial=a%0Ab"),
            400,
            "contains control characters",
        ),
        (
            format!("/ipxe?uuid={UUID}&serial=%24%7Bx%7D"),
            400,
            "would expand",
        ),
        (
            format!("/ipxe?uuid={UUID}"),
            400,
            "needs the label \"serial\", which this machine does not present",
        ),
        (
            "/ipxe?uuid=00000000-0000-4000-8000-000000000009".to_owned(),
            404,
            "no Assignment matches",
        ),
        ("/ipxe?uuid=".to_owned(), 404, "no Assignment matches"),
        (
            "/ipxe?uuid=00000000-0000-0000-0000-000000000000".to_owned(),
            404,
            "no Assignment matches",
        ),
        (
            "/ipxe?uuid=00000000-0000-4000-8000-000000000003".to_owned(),
            404,
            "no Profile in namespace default has labels name=absent",
        ),
        (
            "/ipxe?uuid=00000000-0000-4000-8000-000000000002".to_owned(),
            500,
            "exceeds the work limit of one answer",
        ),
        (
            "/ipxe?uuid=00000000-0000-4000-8000-000000000004".to_owned(),
            503,
            "has no id yet",
        ),
        (
            "/config/x".to_owned(),
            404,
            "with the id from the script's link",
        ),
        (
            "/config/00000000-0000-4000-8000-000000000009".to_owned(),
            404,
            "no config has this id",
        ),
        ("/".to_owned(), 404, "shaper serves /boot.ipxe"),
        (
            format!("/ipxe?a={}", "x".repeat(9000)),
            414,
            "longer than 8192 bytes",
        ),
    ];
    for (target, status, says) in cases {
        let answer = ask(&boot, &target);
        assert_eq!(
            answer.status().as_u16(),
            status,
            "{target:.80}: {}",
            body(&answer)
        );
        assert!(
            body(&answer).contains(says),
            "{target:.80}: {}",
            body(&answer)
        );
    }
}

#[test]
fn only_get_and_head_are_served() {
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        assert_eq!(
            ask_as(&boot(), &method, "/ipxe", None).outcome,
            Outcome::MethodNotAllowed
        );
    }
    assert_eq!(
        ask_as(&boot(), &Method::HEAD, "/boot.ipxe", None).outcome,
        Outcome::Ok
    );
}

#[test]
fn nothing_is_selected_before_the_catalog_is_complete() {
    let boot = BootService::new(
        Arc::new(SharedCatalog::new(Catalog::new())),
        ExtrinsicLabels::default(),
        None,
    );
    assert_eq!(ask(&boot, "/ipxe?uuid=").outcome, Outcome::NotReady);
    assert_eq!(
        ask(&boot, "/config/00000000-0000-4000-8000-000000000009").outcome,
        Outcome::NotReady
    );
    assert_eq!(ask(&boot, "/boot.ipxe").outcome, Outcome::Ok);
}

#[test]
fn the_bootstrap_is_served_unchanged_under_all_its_names() {
    let expected =
        include_str!("../src/bootstrap.ipxe").replace("@BASE_URL@", "http://shaper.lab:8080");
    for path in [
        "/boot.ipxe",
        "/autoexec.ipxe",
        "/a/b/autoexec.ipxe",
        "//autoexec.ipxe",
    ] {
        assert_eq!(body(&ask(&boot(), path)), expected, "{path}");
    }
    assert!(expected.starts_with("#!ipxe\n") && expected.ends_with('\n'));
    for line in expected.lines() {
        assert!(
            line.len() <= 4096
                && line.split_whitespace().count() <= 200
                && line.bytes().all(|b| (0x20..0x7f).contains(&b)),
            "{line}"
        );
        assert!(
            line.split_whitespace()
                .all(|word| word == "||" || !word.contains("||")),
            "glued: {line}"
        );
    }
}

#[test]
fn links_start_with_the_public_url_else_the_host_header_else_the_local_address() {
    let boot = boot();
    let first = |boot: &BootService, host| {
        body(&ask_as(boot, &Method::GET, "/boot.ipxe", host))
            .lines()
            .find(|line| line.starts_with("set shaper-url"))
            .map(str::to_owned)
    };
    assert_eq!(
        first(&boot, Some("a:1")).unwrap(),
        "set shaper-url http://a:1"
    );
    assert_eq!(
        first(&boot, None).unwrap(),
        "set shaper-url http://192.0.2.1:8080"
    );
    let public = boot_with(vec![], vec![], Some("https://boot.lab/x/"));
    assert_eq!(
        first(&public, Some("a:1")).unwrap(),
        "set shaper-url https://boot.lab/x"
    );
    assert_eq!(
        ask_as(&boot, &Method::GET, "/boot.ipxe", Some("a\nb")).outcome,
        Outcome::BadRequest
    );
}

#[test]
fn empty_segments_of_a_path_do_not_count() {
    let boot = boot();
    let link = format!("/config/{}", id("linux", "ignition"));
    for (path, odd) in [
        (
            "/boot.ipxe",
            &["//boot.ipxe", "/boot.ipxe/", "///boot.ipxe//"][..],
        ),
        ("/tftp/autoexec.ipxe", &["//tftp//autoexec.ipxe"]),
        ("/ipxe", &["//ipxe", "/ipxe/", "//ipxe//"]),
        ("/openapi.json", &["//openapi.json"]),
        (&link, &[&format!("/{link}"), &format!("{link}//")]),
        (
            &format!("{link}/mac=52:54:00:12:34:56/user-data"),
            &[&format!("/{link}//mac=52:54:00:12:34:56//user-data")],
        ),
        ("/", &["//"]),
    ] {
        let query = format!("?uuid={UUID}&serial=1");
        let expected = ask(&boot, &format!("{path}{query}"));
        for odd in odd {
            let answer = ask(&boot, &format!("{odd}{query}"));
            assert_eq!(
                (answer.route, answer.outcome, body(&answer)),
                (expected.route, expected.outcome, body(&expected)),
                "{odd}"
            );
        }
    }
}

#[test]
fn the_committed_openapi_document_is_the_served_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == openapi(),
        "config/openapi.json is stale: run `cargo xtask generate`"
    );
    assert_eq!(body(&ask(&boot(), "/openapi.json")), openapi());
}

#[test]
fn every_200_on_the_path_of_a_script_is_a_script() {
    let boot = boot();
    for target in [
        "/boot.ipxe",
        "/autoexec.ipxe",
        &format!("/ipxe?uuid={UUID}&serial=1"),
    ] {
        let answer = ask(&boot, target);
        assert_eq!(answer.outcome, Outcome::Ok);
        assert!(body(&answer).starts_with("#!ipxe\n"), "{target}");
    }
}

#[test]
fn the_answer_without_a_profile_names_the_assignment_and_what_it_matched_by() {
    let answer = ask(&boot(), "/ipxe?uuid=00000000-0000-4000-8000-000000000003");
    assert_eq!(answer.outcome, Outcome::NoProfile);
    let (assignment, by) = answer.choice.assignment.unwrap();
    assert_eq!(
        (assignment.key.to_string().as_str(), by),
        ("default/three", boot::MatchedBy::Uuid)
    );
}

#[test]
fn the_answer_for_a_config_names_the_assignment_that_its_template_used() {
    let configs = [("a", "{{ assignment.name }}"), ("b", "")];
    let boot = boot_with(
        vec![profile("p", "#!ipxe\n", &configs)],
        vec![assignment("one", Some(UUID), "p")],
        None,
    );
    let named = |config: &str| {
        let answer = ask(&boot, &format!("/config/{}?uuid={UUID}", id("p", config)));
        assert_eq!(answer.outcome, Outcome::Ok, "{}", body(&answer));
        let assignment = answer.choice.assignment;
        assignment.map(|(assignment, by)| (assignment.key.to_string(), by))
    };
    let one = ("default/one".to_owned(), boot::MatchedBy::Uuid);
    assert_eq!(named("a"), Some(one));
    assert_eq!(named("b"), None, "the Assignment was not looked up");
}

#[test]
fn a_machine_with_an_invalid_assignment_or_profile_gets_503() {
    let mut catalog = Catalog::new();
    let rejected = |partial| {
        Change::Rejected(Arc::new(Rejected {
            partial,
            fault: "spec.ipxe: no good".into(),
        }))
    };
    let id = uuid::Uuid::new_v4();
    let linux = Profile::partial(
        ObjectKey::new("default", "linux"),
        None,
        &BTreeMap::from([("name".to_owned(), "linux".to_owned())]),
    );
    let linux = linux.with_ids(BTreeMap::from([("ignition".parse().unwrap(), id)]));
    catalog.apply(rejected(Partial::Profile(Arc::new(linux))));
    catalog.apply(Change::Assignment(Arc::new(assignment(
        "one",
        Some(UUID),
        "linux",
    ))));
    catalog.apply(rejected(Partial::Assignment(Arc::new(assignment(
        "two",
        Some("00000000-0000-4000-8000-000000000002"),
        "linux",
    )))));
    let boot = BootService::new(
        Arc::new(SharedCatalog::new(catalog)),
        ExtrinsicLabels::default(),
        None,
    );
    boot.set_synced();
    for (target, object) in [
        (format!("/ipxe?uuid={UUID}"), "Profile default/linux"),
        (
            "/ipxe?uuid=00000000-0000-4000-8000-000000000002".to_owned(),
            "Assignment default/two",
        ),
        (format!("/config/{id}?uuid={UUID}"), "Profile default/linux"),
    ] {
        let answer = ask(&boot, &target);
        assert_eq!(
            (answer.outcome, answer.status().as_u16()),
            (Outcome::NotAccepted, 503)
        );
        let body = std::str::from_utf8(&answer.body).unwrap();
        assert_eq!(
            body,
            format!(
                "{object} is invalid, so this machine waits until it is fixed: spec.ipxe: no good"
            )
        );
    }
}

#[test]
fn neither_of_two_configs_with_one_id_is_served() {
    let (id, other) = (uuid::Uuid::new_v4(), "00000000-0000-4000-8000-000000000002");
    let with_id = |name: &str| {
        let mut profile = profile(name, SCRIPT, &[("ignition", name)]);
        profile.ids = BTreeMap::from([("ignition".parse().unwrap(), id)]);
        profile
    };
    let assignments = || {
        vec![
            assignment("one", Some(UUID), "original"),
            assignment("two", Some(other), "copy"),
        ]
    };
    let both = boot_with(
        vec![with_id("original"), with_id("copy")],
        assignments(),
        None,
    );
    for target in [
        format!("/config/{id}?uuid={UUID}"),
        format!("/config/{id}/uuid={UUID}/meta-data"),
        format!("/ipxe?uuid={UUID}&serial=1"),
        format!("/ipxe?uuid={other}&serial=1"),
    ] {
        let answer = ask(&both, &target);
        assert_eq!(
            (answer.outcome, answer.status().as_u16()),
            (Outcome::DuplicateId, 503),
            "{target}"
        );
        assert!(
            body(&answer).contains("Profile default/copy and config ignition of Profile default/original have the same id"),
            "{}",
            body(&answer)
        );
        assert!(!body(&answer).contains(&id.to_string()));
    }
    let one = boot_with(vec![with_id("original")], assignments(), None);
    assert_eq!(body(&ask(&one, &format!("/config/{id}"))), "original");
}

#[test]
fn a_machine_gets_its_own_values_and_its_links_carry_only_what_it_said() {
    let variables = |json| boot::Variables::from_json(serde_json::from_str(json).unwrap()).unwrap();
    let script = "#!ipxe\nset hostname {{ vars.hostname }}\nchain {{ ignition }}\n";
    let configs = [
        ("ignition", "{{ machine.name }} {{ vars.token }}"),
        ("free", "x"),
    ];
    let linux = profile("linux", script, &configs);
    let boot = boot_with(
        vec![linux.clone()],
        vec![assignment("one", Some(UUID), "linux")],
        None,
    );
    let machine = |json| {
        Change::Machine(Arc::new(boot::Machine {
            key: ObjectKey::new("", "rack7-u12"),
            created: None,
            labels: boot::Labels::default(),
            uuid: Some(UUID.parse().unwrap()),
            serial: None,
            macs: ["52:54:00:00:00:01".parse().unwrap()].into(),
            variables: variables(json),
        }))
    };
    let publish = |change: Change| {
        let mut catalog = Catalog::clone(&boot.catalog().load());
        catalog.apply(change);
        boot.catalog().publish(catalog);
    };
    publish(machine(r#"{"hostname": "web-12", "token": "t0k"}"#));
    let answer = ask(&boot, "/ipxe?mac=52:54:00:00:00:01");
    let id = id("linux", "ignition");
    assert_eq!(
        body(&answer),
        format!(
            "#!ipxe\nset hostname web-12\nchain http://shaper.lab:8080/config/{id}?mac=52:54:00:00:00:01\n"
        )
    );
    let link = format!("/config/{id}?mac=52:54:00:00:00:01");
    assert_eq!(body(&ask(&boot, &link)), "rack7-u12 t0k");

    // A missing variable is an error of the text that needs it, and of no other.
    publish(machine(r#"{"hostname": "web-12"}"#));
    let failed = ask(&boot, &link);
    assert_eq!(failed.status(), 500);
    assert!(
        body(&failed).contains("needs the variable \"token\""),
        "{}",
        body(&failed)
    );
    assert_eq!(ask(&boot, "/ipxe?mac=52:54:00:00:00:01").status(), 200);
}
