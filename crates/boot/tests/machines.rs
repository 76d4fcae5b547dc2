//! Machines: which subject is which, what that selects, and the variables of its texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::identity::other_byte_order;
use boot::render::{self, RenderError};
use boot::selection::NotSelected;
use boot::{
    Assignment, Catalog, Change, ConfigName, ExtrinsicLabels, LabelSelector, Labels, Mac, Machine,
    MatchedBy, ObjectKey, ObjectRef, Partial, Profile, Rejected, Subject, SubjectSelectors,
    Variables, VariablesSchema,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const MAC: &str = "52:54:00:00:00:01";
const OTHER_MAC: &str = "52:54:00:00:00:02";

fn machine(name: &str) -> Machine {
    Machine {
        key: ObjectKey::new("", name),
        created: None,
        labels: Labels::default(),
        uuid: None,
        serial: None,
        macs: [].into(),
        variables: Variables::default(),
    }
}

/// A Machine with a UUID and two network cards.
fn server() -> Machine {
    Machine {
        uuid: Some(UUID.parse().unwrap()),
        macs: [MAC.parse().unwrap(), OTHER_MAC.parse().unwrap()].into(),
        labels: [("rack", "r7")].into_iter().collect(),
        ..machine("rack7-u12")
    }
}

fn assignment(name: &str, subjects: SubjectSelectors) -> Assignment {
    Assignment {
        key: ObjectKey::new("ns", name),
        created: None,
        labels: Labels::default(),
        subjects,
        profiles: Labels::default(),
        priority: 0,
        variables: Variables::default(),
    }
}

fn by_mac(name: &str, mac: &str) -> Assignment {
    let macs = [mac.parse().unwrap()].into();
    assignment(
        name,
        SubjectSelectors {
            macs,
            ..SubjectSelectors::default()
        },
    )
}

fn by_label(name: &str, key: &str, value: &str) -> Assignment {
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let labels = LabelSelector::new(&labels, []);
    assignment(
        name,
        SubjectSelectors {
            labels,
            ..SubjectSelectors::default()
        },
    )
}

fn profile(script: &str, configs: &[(&str, &str)]) -> Profile {
    let texts = configs
        .iter()
        .map(|(name, text)| (name.parse().unwrap(), (*text).to_owned()));
    let texts: BTreeMap<ConfigName, String> = texts.collect();
    let ids = texts.keys().enumerate();
    let ids = ids
        .map(|(at, name)| (name.clone(), Uuid::from_u128(at as u128 + 1)))
        .collect();
    let key = ObjectKey::new("ns", "debian");
    let profile = Profile::compile(key, None, &BTreeMap::new(), script, &texts).unwrap();
    profile.with_ids(ids)
}

fn variables(json: Value) -> Variables {
    let Value::Object(map) = json else {
        panic!("a map")
    };
    Variables::from_json(map).unwrap()
}

fn catalog(machines: &[Machine], assignments: &[Assignment], profile: Profile) -> Catalog {
    let mut catalog = Catalog::new();
    catalog.apply(Change::Profile(Arc::new(profile)));
    for machine in machines {
        catalog.apply(Change::Machine(Arc::new(machine.clone())));
    }
    for assignment in assignments {
        catalog.apply(Change::Assignment(Arc::new(assignment.clone())));
    }
    catalog
}

fn none() -> ExtrinsicLabels {
    ExtrinsicLabels::default()
}

/// The name of the subject's Machine, and of the Assignment that it gets.
fn answer(catalog: &Catalog, query: &str) -> (Option<String>, String) {
    let subject = catalog.subject(query, &none()).unwrap();
    let machine = subject.machine().map(|machine| machine.key.to_string());
    let winner = match catalog.select(&subject) {
        Ok(selection) => selection.assignment.key.name.to_string(),
        Err(error) => error.to_string(),
    };
    (machine, winner)
}

fn script(catalog: &Catalog, query: &str) -> Result<String, RenderError> {
    let subject = Arc::new(catalog.subject(query, &none()).unwrap());
    let selection = catalog.select(&subject).unwrap();
    selection.script(&subject, "http://boot")
}

#[test]
fn any_identity_of_a_machine_leads_to_an_assignment_that_names_another_of_its_identities() {
    let catalog = catalog(
        &[server()],
        &[by_mac("own", OTHER_MAC)],
        profile("#!ipxe\n", &[]),
    );
    let is_own = (Some("rack7-u12".to_owned()), "own".to_owned());
    for query in [
        format!("mac={MAC}"),
        format!("uuid={UUID}"),
        format!("mac={OTHER_MAC}&serial=X"),
    ] {
        assert_eq!(answer(&catalog, &query), is_own, "{query}");
    }
    let swapped = other_byte_order(UUID.parse().unwrap());
    assert_eq!(answer(&catalog, &format!("uuid={swapped}")), is_own);
    let (machine, winner) = answer(&catalog, "mac=52:54:00:00:00:03");
    assert_eq!(machine, None);
    assert!(winner.starts_with("no Assignment matches"), "{winner}");
}

#[test]
fn an_assignment_that_lists_two_cards_of_a_machine_is_one_candidate() {
    let macs = [MAC.parse().unwrap(), OTHER_MAC.parse().unwrap()].into();
    let both = assignment(
        "both",
        SubjectSelectors {
            macs,
            ..SubjectSelectors::default()
        },
    );
    let catalog = catalog(&[server()], &[both], profile("#!ipxe\n", &[]));
    let explanation = catalog.explain(&catalog.subject(&format!("mac={MAC}"), &none()).unwrap());
    assert_eq!(explanation.candidates.len(), 1);
}

#[test]
fn labels_of_a_machine_are_the_operators_and_yield_to_those_of_the_server() {
    let catalog = catalog(
        &[server()],
        &[
            by_label("rack", "rack", "r7"),
            by_label("name", "machine", "other"),
        ],
        profile("#!ipxe\n", &[]),
    );
    let query = format!("mac={MAC}&rack=r1&machine=other");
    let subject = catalog.subject(&query, &none()).unwrap();
    assert_eq!(
        (subject.label("rack"), subject.extrinsic("rack")),
        (Some("r7"), Some("r7"))
    );
    assert_eq!(subject.extrinsic("machine"), Some("rack7-u12"));
    assert_eq!(
        subject.to_query(),
        format!("mac={MAC}"),
        "links carry what the machine said"
    );
    assert_eq!(answer(&catalog, &query).1, "rack");

    let server = ExtrinsicLabels::new([("rack", "r9")]).unwrap();
    let subject = catalog.subject(&query, &server).unwrap();
    assert_eq!(subject.label("rack"), Some("r9"));
}

#[test]
fn the_uuid_decides_where_a_subject_presents_two_machines() {
    let by_mac = Machine {
        macs: ["52:54:00:00:00:09".parse().unwrap()].into(),
        ..machine("other")
    };
    let catalog = catalog(&[server(), by_mac], &[], profile("#!ipxe\n", &[]));
    let both = catalog
        .subject(&format!("uuid={UUID}&mac=52:54:00:00:00:09"), &none())
        .unwrap();
    assert_eq!(
        both.machine().map(|it| it.key.to_string()).as_deref(),
        Some("rack7-u12")
    );
    assert!(both.presents_two_machines());
    let explanation = catalog.explain(&both);
    let found = explanation.machine.unwrap();
    assert_eq!(
        (
            found.matched_by,
            found.other.map(|it| it.to_string()).as_deref()
        ),
        (MatchedBy::Uuid, Some("other"))
    );
    assert!(
        !catalog
            .subject(&format!("uuid={UUID}&mac={MAC}"), &none())
            .unwrap()
            .presents_two_machines()
    );
}

#[test]
fn of_two_machines_that_claim_one_identity_the_older_wins_and_both_conflict() {
    let created = |year: i16| Some(format!("{year}-01-01T00:00:00Z").parse().unwrap());
    let claims = |name: &str, created| Machine {
        created,
        macs: [MAC.parse().unwrap()].into(),
        ..machine(name)
    };
    for (first, second, winner) in [
        (claims("b", created(2020)), claims("a", created(2021)), "b"),
        (claims("b", None), claims("a", None), "a"),
        (claims("a", None), claims("b", created(2021)), "b"),
    ] {
        let machines = [first, second];
        let catalog = catalog(&machines, &[], profile("#!ipxe\n", &[]));
        assert_eq!(
            answer(&catalog, &format!("mac={MAC}")).0.as_deref(),
            Some(winner)
        );
        for (own, other) in [("a", "b"), ("b", "a")] {
            let own = catalog.machine(&ObjectKey::new("", own)).unwrap();
            let others: Vec<_> = catalog
                .conflicting_machines(own)
                .iter()
                .map(|it| &*it.key.name)
                .collect();
            assert_eq!(others, [other]);
        }
    }
}

#[test]
fn an_invalid_machine_holds_its_subject_until_it_is_fixed() {
    let mut catalog = catalog(
        &[],
        &[assignment("default", SubjectSelectors::default())],
        profile("#!ipxe\n", &[]),
    );
    let rejected = |machine: Machine| {
        Change::Rejected(Arc::new(Rejected {
            partial: Partial::Machine(Arc::new(machine)),
            fault: "broken".into(),
        }))
    };
    let query = format!("mac={MAC}");
    assert!(catalog.apply(rejected(server())));
    let subject = catalog.subject(&query, &none()).unwrap();
    let error = catalog.select(&subject).unwrap_err();
    assert!(
        matches!(
            &error,
            NotSelected::NotAccepted {
                object: ObjectRef::Machine(_),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        answer(&catalog, "mac=52:54:00:00:00:07").1,
        "default",
        "others are not held"
    );

    // A last valid version stays in use.
    catalog.apply(Change::Machine(Arc::new(server())));
    catalog.apply(rejected(server()));
    assert_eq!(answer(&catalog, &query).1, "default");

    catalog.apply(Change::MachineDeleted(server().key));
    assert_eq!(answer(&catalog, &query), (None, "default".to_owned()));
    catalog.apply(Change::AssignmentDeleted(ObjectKey::new("ns", "default")));
    catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "debian")));
    assert_eq!(
        (
            catalog.machine_count(),
            catalog.rejected_count(),
            catalog.index_size()
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_text_reads_the_merged_variables_and_the_machine() {
    let text = "#!ipxe\necho {{ vars.hostname }} {{ vars.net.ip }}/{{ vars.net.mtu }} {{ machine.name }} {{ machine.labels.rack }}\n\
        {% for disk in vars.disks %}echo {{ loop.index }} {{ disk.path }}\n{% endfor %}";
    let profile = profile(text, &[]).with_variables(
        variables(json!({ "hostname": "unnamed", "net": { "mtu": 1500 }, "disks": [{ "path": "/dev/sda" }] })),
        None,
    );
    let mut own = by_mac("own", MAC);
    own.variables = variables(json!({ "net": { "ip": "192.0.2.1", "mtu": 9000 } }));
    let mut server = server();
    server.variables = variables(
        json!({ "hostname": "web-12", "disks": [{ "path": "/dev/nvme0n1" }, { "path": "/dev/nvme1n1" }] }),
    );
    let catalog = catalog(&[server], &[own], profile);
    assert_eq!(
        script(&catalog, &format!("mac={MAC}")).unwrap(),
        "#!ipxe\necho web-12 192.0.2.1/9000 rack7-u12 r7\necho 1 /dev/nvme0n1\necho 2 /dev/nvme1n1\n"
    );
}

#[test]
fn every_type_of_variable_is_written_as_json_or_refused() {
    let json = json!({
        "text": "a 'b'", "number": 7, "float": 1.5, "big": u64::MAX, "negative": -3, "yes": true,
        "list": [1, "x", null], "map": { "b": [2], "a": null },
    });
    let render = |text: &str| {
        let profile = profile(&format!("#!ipxe\n{text}\n"), &[])
            .with_variables(variables(json.clone()), None);
        let catalog = catalog(
            &[],
            &[assignment("all", SubjectSelectors::default())],
            profile,
        );
        script(&catalog, "").map(|text| text.trim_start_matches("#!ipxe\n").trim_end().to_owned())
    };
    for (text, expected) in [
        (
            "{{ vars.text }} {{ vars.number }} {{ vars.float }} {{ vars.big }} {{ vars.negative }} {{ vars.yes }}",
            "a 'b' 7 1.5 18446744073709551615 -3 true",
        ),
        (
            "{{ vars.list | tojson }} {{ vars.map | tojson }}",
            r#"[1,"x",null] {"b":[2]}"#,
        ),
        (
            "{{ vars['text'] | upper }} {{ vars.list[1] }} {{ vars.map.b[0] }}",
            "A 'B' x 2",
        ),
        (
            "{{ vars.number|int + 1 }} {{ vars.text | shquote }}",
            r"8 'a '\''b'\'''",
        ),
        (
            "{{ vars.map.a | default('gone') }} {{ vars.none is defined }} {{ 'x' if vars.none else 'y' }}",
            "gone false y",
        ),
        (
            "{% for key, value in vars.map | items %}{{ key }}={{ value | tojson }}{% endfor %}",
            "b=[2]",
        ),
        (
            "{% for d in vars.none | default([]) %}{{ d }}{% endfor %}.",
            ".",
        ),
        (
            "{{ 'x' in vars.list }} {{ vars.list | length }} {{ vars | length }}",
            "true 3 8",
        ),
    ] {
        assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
    }
    for (text, message) in [
        ("{{ vars.list }}", "a list or map can't be printed"),
        ("{{ vars.map }}", "a list or map can't be printed"),
        ("{{ vars.text.name }}", "`vars.text.name` is undefined"),
        ("{{ vars.map.c.d }}", "needs the variable \"map.c\""),
        ("{{ machine.name }}", "needs the Machine object"),
    ] {
        let error = render(text).expect_err(text).to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_missing_variable_is_told_with_the_objects_that_could_give_it() {
    let script_text = "#!ipxe\necho {{ cfg }}\n";
    let profile = profile(
        script_text,
        &[("cfg", "a\nb: {{ vars.token }}\n"), ("free", "fine")],
    );
    let profile = Arc::new(profile);
    let own = Arc::new(by_mac("own", MAC));
    let mut catalog = catalog(&[server()], &[], (*profile).clone());
    catalog.apply(Change::Assignment(own.clone()));
    let subject = Arc::new(catalog.subject(&format!("mac={MAC}"), &none()).unwrap());
    let config = |name: &str| {
        let name = name.parse().unwrap();
        render::config(&profile, &name, &subject, Some(&own), "http://boot")
    };
    assert_eq!(
        config("cfg").unwrap_err().to_string(),
        "line 2 of cfg needs the variable \"token\", which is in spec.variables of neither Machine rack7-u12, Assignment ns/own nor Profile ns/debian; \
         add it there, or write {{ vars.token | default('...') }}"
    );
    assert_eq!(config("free").as_deref(), Ok("fine"));
    assert!(
        script(&catalog, &format!("mac={MAC}")).is_ok(),
        "other texts are served"
    );
    let faults = catalog.explain(&subject).variable_faults;
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].to_string(),
        "variable \"token\": line 2 of cfg needs it, and nobody gives it"
    );
}

#[test]
fn a_text_that_uses_a_variable_against_the_schema_fails_and_hides_the_value() {
    let schema = json!({ "properties": { "token": { "type": "string", "minLength": 20 } }, "required": ["token"] });
    let schema = Arc::new(VariablesSchema::compile(&schema).unwrap());
    let text = profile(
        "#!ipxe\necho {{ vars.other }}\n",
        &[("cfg", "{{ vars.token }}"), ("all", "{{ vars | tojson }}")],
    );
    let profile = Arc::new(text.with_variables(
        variables(json!({ "token": "s3cret", "other": "x" })),
        Some(schema),
    ));
    let default = assignment("all", SubjectSelectors::default());
    let catalog = catalog(&[], &[default], (*profile).clone());
    let subject = Arc::new(catalog.subject("serial=1", &none()).unwrap());
    assert!(script(&catalog, "serial=1").is_ok());
    for name in ["cfg", "all"] {
        let error = render::config(
            &profile,
            &name.parse().unwrap(),
            &subject,
            None,
            "http://boot",
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("variable \"token\"") && !error.contains("s3cret"),
            "{error}"
        );
    }
}

#[test]
fn a_template_can_not_double_a_variable_without_bound() {
    let doubled = "{% set a = vars.list %}".to_owned() + &"{% set a = [a, a] %}".repeat(30);
    let error = Profile::compile(
        ObjectKey::new("ns", "p"),
        None,
        &BTreeMap::new(),
        &format!("#!ipxe\n{doubled}"),
        &BTreeMap::new(),
    );
    assert!(error.is_err());
    for text in [
        "{{ vars.x[loop.index] }}",
        "{% for i in range(9) %}{{ vars.x[i] }}{% endfor %}",
    ] {
        let compiled = Profile::compile(
            ObjectKey::new("ns", "p"),
            None,
            &BTreeMap::new(),
            &format!("#!ipxe\n{text}"),
            &BTreeMap::new(),
        );
        assert!(compiled.is_err(), "{text}");
    }
}

// === property ===

const UUIDS: [&str; 3] = [
    UUID,
    "00000000-0000-0000-0000-00000000000a",
    "33221100-5544-7766-8899-aabbccddeeff",
];
const SERIALS: [&str; 3] = ["S1", "S2", "None"];
const MACS: [&str; 3] = [MAC, OTHER_MAC, "ff:ff:ff:ff:ff:ff"];

#[derive(Clone, Debug)]
struct Identities {
    uuid: Option<usize>,
    serial: Option<usize>,
    macs: Vec<usize>,
    label: Option<usize>,
}

fn identities(max_macs: usize) -> impl Strategy<Value = Identities> {
    let index = || prop::option::of(0..3_usize);
    (
        index(),
        index(),
        prop::collection::vec(0..3_usize, 0..=max_macs),
        prop::option::of(0..2_usize),
    )
        .prop_map(|(uuid, serial, macs, label)| Identities {
            uuid,
            serial,
            macs,
            label,
        })
}

impl Identities {
    fn machine(&self, name: &str) -> Machine {
        Machine {
            uuid: self.uuid.map(|at| UUIDS[at].parse().unwrap()),
            serial: self.serial.map(|at| SERIALS[at].into()),
            macs: self
                .macs
                .iter()
                .map(|at| MACS[*at].parse::<Mac>().unwrap())
                .collect(),
            labels: self
                .label
                .iter()
                .map(|at| ("rack", ["r0", "r1"][*at]))
                .collect(),
            ..machine(name)
        }
    }

    fn assignment(&self, name: &str) -> Assignment {
        let rack = self
            .label
            .map(|at| ("rack".to_owned(), ["r0", "r1"][at].to_owned()));
        let subjects = SubjectSelectors {
            uuids: self
                .uuid
                .iter()
                .map(|at| UUIDS[*at].parse().unwrap())
                .collect(),
            serials: self.serial.iter().map(|at| SERIALS[*at].into()).collect(),
            macs: self
                .macs
                .iter()
                .map(|at| MACS[*at].parse::<Mac>().unwrap())
                .collect(),
            labels: LabelSelector::new(&rack.into_iter().collect(), []),
        };
        assignment(name, subjects)
    }

    fn query(&self) -> String {
        let uuid = self.uuid.map(|at| format!("uuid={}", UUIDS[at]));
        let serial = self.serial.map(|at| format!("serial={}", SERIALS[at]));
        let mac = self.macs.first().map(|at| format!("mac={}", MACS[*at]));
        let rack = self.label.map(|at| format!("rack=r{at}"));
        [uuid, serial, mac, rack]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// The identities that count, the strongest first.
fn real(
    uuid: Option<Uuid>,
    serial: Option<&str>,
    macs: &[Mac],
) -> (Vec<Uuid>, Vec<String>, Vec<Mac>) {
    let serial = serial.filter(|serial| *serial != "None");
    let macs = macs.iter().filter(|mac| !mac.is_placeholder());
    (
        uuid.into_iter().collect(),
        serial.into_iter().map(str::to_owned).collect(),
        macs.copied().collect(),
    )
}

proptest! {
    /// Filters and sorts lists, clause by clause.
    #[test]
    fn selection_with_machines_matches_a_plain_model(
        machines in prop::collection::vec(identities(2), 0..4),
        assignments in prop::collection::vec(identities(2), 0..6),
        gone in prop::collection::vec(any::<bool>(), 4),
        subject in identities(1),
    ) {
        let mut all: Vec<_> = machines.iter().enumerate().map(|(at, it)| it.machine(&format!("m{at}"))).collect();
        let assignments: Vec<_> = assignments.iter().enumerate().map(|(at, it)| it.assignment(&format!("a{at}"))).collect();
        let mut catalog = catalog(&all, &assignments, profile("#!ipxe\n", &[]));
        for (machine, is_gone) in all.clone().iter().zip(&gone) {
            if *is_gone {
                catalog.apply(Change::MachineDeleted(machine.key.clone()));
                all.retain(|other| other.key != machine.key);
            }
        }
        let query = subject.query();
        let plain = Subject::from_query(&query, &none()).unwrap();
        let has_mac = |machine: &Machine| plain.mac().is_some_and(|mac| machine.macs.contains(&mac));
        let own = plain.uuid();
        let found = all.iter().find(|it| own.is_some() && it.uuid == own)
            .or_else(|| all.iter().find(|it| own.is_some() && it.uuid == own.map(other_byte_order)))
            .or_else(|| all.iter().find(|it| plain.serial().is_some() && it.serial.as_deref() == plain.serial()))
            .or_else(|| all.iter().find(|it| has_mac(it)));
        let known = catalog.subject(&query, &none()).unwrap();
        prop_assert_eq!(known.machine().map(|it| &it.key), found.map(|it| &it.key));

        let of_subject = real(own, plain.serial(), &plain.mac().into_iter().collect::<Vec<_>>());
        let of_machine = found.map_or_else(Default::default, |it| real(it.uuid, it.serial.as_deref(), &it.macs));
        let uuids: Vec<_> = of_subject.0.into_iter().chain(of_machine.0).collect();
        let serials: Vec<_> = of_subject.1.into_iter().chain(of_machine.1).collect();
        let macs: Vec<_> = of_subject.2.into_iter().chain(of_machine.2).collect();
        let rack = found.and_then(|it| it.labels.get("rack")).or(plain.label("rack"));
        let rank = |it: &&Assignment| {
            let subjects = &it.subjects;
            let by = if !subjects.names_identities() {
                Some(MatchedBy::Labels)
            } else if uuids.iter().any(|uuid| subjects.uuids.contains(uuid)) {
                Some(MatchedBy::Uuid)
            } else if uuids.iter().any(|uuid| subjects.uuids.contains(&other_byte_order(*uuid))) {
                Some(MatchedBy::UuidOtherByteOrder)
            } else if serials.iter().any(|serial| subjects.serials.contains(serial.as_str())) {
                Some(MatchedBy::Serial)
            } else {
                macs.iter().any(|mac| subjects.macs.contains(mac)).then_some(MatchedBy::Mac)
            };
            let is_met = subjects.labels.requirements().iter().all(|it| it.holds(rack));
            by.filter(|_| is_met).map(|by| (by, std::cmp::Reverse(subjects.labels.len()), it.key.clone()))
        };
        let expected = assignments.iter().filter_map(|it| rank(&it)).min();
        let winner = catalog.select(&known).ok().map(|it| (it.by, it.assignment.key.clone()));
        prop_assert_eq!(winner, expected.map(|(by, _, key)| (by, key)));
        let explained = catalog.explain(&known);
        let mut keys: Vec<_> = explained.candidates.iter().map(|it| it.assignment.clone()).collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), explained.candidates.len(), "each candidate once");
    }
}
