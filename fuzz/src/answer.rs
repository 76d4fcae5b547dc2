//! Answers to requests, and the links in them.

use std::sync::{Arc, LazyLock};

use api::{Answer, BootService, Outcome, Request, Route};
use boot::{
    Assignment, Catalog, Change, ExtrinsicLabels, ObjectKey, Profile, SharedCatalog,
    SubjectSelectors,
};
use http::Method;

use super::{CONFIG_ID, check_error_to};

const SCRIPT: &str = "#!ipxe\nkernel http://h/vmlinuz ds=nocloud;s={{ config0 | nocloud }}\nset config {{ config0 }}\nboot\n";
pub(super) const CONFIG: &str = "{{ subject | tojson }}";

static BOOT: LazyLock<BootService> = LazyLock::new(boot);

/// A server with one Profile for every machine.
pub(super) fn boot() -> BootService {
    let name: boot::ConfigName = "config0".parse().expect("a name");
    let configs = [(name.clone(), CONFIG.to_owned())].into();
    let profile = Profile::compile(
        ObjectKey::new("ns", "profile"),
        None,
        &[].into(),
        SCRIPT,
        &configs,
    )
    .expect("it compiles");
    let profile = profile.with_ids([(name, CONFIG_ID.parse().expect("a UUID"))].into());
    let assignment = Assignment {
        key: ObjectKey::new("ns", "everybody"),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    };
    let mut catalog = Catalog::new();
    catalog.apply(Change::Profile(Arc::new(profile)));
    catalog.apply(Change::Assignment(Arc::new(assignment)));
    let extrinsic = ExtrinsicLabels::new([("region", "us-cal")]).expect("a label");
    let boot = BootService::new(Arc::new(SharedCatalog::new(catalog)), extrinsic, None);
    boot.set_synced();
    boot
}

/// Input: a path with its query and, after the first newline, a Host header.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (target, host) = text.split_once('\n').unwrap_or((text, "boot.example:8080"));
    let answer = ask(target, host);
    assert!(
        !matches!(
            answer.outcome,
            Outcome::RenderFailed | Outcome::Broken | Outcome::NotReady
        ),
        "{answer:?}"
    );
    if answer.outcome != Outcome::Ok {
        let text = std::str::from_utf8(&answer.body).expect("UTF-8");
        assert!(answer.status().is_client_error());
        return check_error_to(bytes, text);
    }
    let body = std::str::from_utf8(&answer.body).expect("UTF-8");
    match answer.route {
        Route::Bootstrap => assert!(body.starts_with("#!ipxe\n")),
        Route::Script => {
            assert!(body.starts_with("#!ipxe\n"));
            follow(body, host);
        }
        Route::Config | Route::OpenApi => {}
        Route::Unknown => panic!("{target} is served"),
    }
}

/// Fetches the links in a script as the same machine.
fn follow(script: &str, host: &str) {
    let link = |start: &str| {
        let line = script
            .lines()
            .find_map(|line| Some(&line[line.find(start)? + start.len()..]))
            .expect("the script has a link");
        let path = line.find("/config/").expect("it leads to a config");
        line[path..].to_owned()
    };
    let config = ask(&link("set config "), host);
    // The config has all labels, and control characters are refused in configs.
    let says = String::from_utf8_lossy(&config.body);
    assert!(
        config.outcome == Outcome::Ok
            || config.outcome == Outcome::BadRequest
                && says.contains("contains control characters"),
        "{script}: {says}"
    );
    let user_data = ask(&(link("ds=nocloud;s=") + "user-data"), host);
    assert_eq!(user_data.outcome, config.outcome, "{script}");
    assert_eq!(user_data.body, config.body, "{script}");
    let meta_data = ask(&(link("ds=nocloud;s=") + "meta-data"), host);
    assert_eq!(
        meta_data.outcome,
        Outcome::Ok,
        "{script}: {:?}",
        meta_data.body
    );
}

fn ask(target: &str, host: &str) -> Answer<'static> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let local = ([127, 0, 0, 1], 8080).into();
    let request = Request {
        method: &Method::GET,
        path,
        query,
        host: Some(host),
        scheme: "http",
        local,
    };
    let catalog = BOOT.synced();
    BOOT.answer(catalog.as_deref(), &request).into_owned()
}
