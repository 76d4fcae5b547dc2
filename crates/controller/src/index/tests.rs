use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::object::{Parsed, WatchedResource};

#[derive(Clone, Debug)]
enum Act {
    Profile {
        name: &'static str,
        os: &'static str,
        is_sound: bool,
    },
    /// A Profile whose script reads a variable.
    VariableProfile {
        name: &'static str,
        os: &'static str,
    },
    Assignment {
        name: &'static str,
        spec: usize,
    },
    Machine {
        name: &'static str,
        spec: usize,
    },
    GoneProfile(&'static str),
    GoneAssignment(&'static str),
    GoneMachine(&'static str),
}

const SPECS: usize = 8;
const MACHINE_SPECS: usize = 6;

fn spec(number: usize) -> Value {
    let x = json!({ "os": "x" });
    match number {
        0 => json!({ "profileSelectors": x }),
        1 => {
            json!({ "profileSelectors": { "os": "y" }, "subjectSelectors": { "serialNumbers": ["S1"] } })
        }
        2 => {
            json!({ "profileSelectors": x, "subjectSelectors": { "serialNumbers": ["S1", "S2"] } })
        }
        3 => json!({ "subjectSelectors": { "matchLabels": { "rack": "r1" } } }),
        4 => {
            json!({ "profileSelectors": x, "subjectSelectors": { "matchLabels": { "row": "1" } }, "priority": 1 })
        }
        7 => {
            json!({ "profileSelectors": x, "subjectSelectors": { "serialNumbers": ["S2"] }, "variables": { "hostname": "h" } })
        }
        // Passes the schema but not the conversion.
        5 => json!({ "subjectSelectors": { "uuids": ["no uuid"] } }),
        _ => json!({ "subjectSelectors": { "serialNumbers": ["S1"], "uuids": ["no uuid"] } }),
    }
}

/// The labels and the spec of a Machine.
fn machine(number: usize) -> (Value, Value) {
    let rack = json!({ "rack": "r1" });
    let hostname = json!({ "hostname": "h" });
    match number {
        0 => (json!({}), json!({ "serialNumber": "S1" })),
        1 => (
            json!({}),
            json!({ "serialNumber": "S2", "variables": hostname }),
        ),
        2 => (rack, json!({ "macAddresses": ["52:54:00:00:00:01"] })),
        3 => (
            rack,
            json!({ "serialNumber": "S1", "macAddresses": ["52:54:00:00:00:01"], "variables": hostname }),
        ),
        4 => (json!({}), json!({ "serialNumber": "S3" })),
        _ => (
            json!({}),
            json!({ "serialNumber": "S1", "uuid": "no uuid" }),
        ),
    }
}

fn act() -> impl Strategy<Value = Act> {
    let profile = prop::sample::select(&["p", "q", "r"][..]);
    let assignment = prop::sample::select(&["a", "b", "c", "d", "e"][..]);
    let machine = prop::sample::select(&["m", "n", "o"][..]);
    let os = prop::sample::select(&["x", "x", "y"][..]);
    prop_oneof![
        2 => (profile.clone(), os.clone()).prop_map(|(name, os)| Act::VariableProfile { name, os }),
        5 => (machine.clone(), 0..MACHINE_SPECS).prop_map(|(name, spec)| Act::Machine { name, spec }),
        2 => machine.prop_map(Act::GoneMachine),
        3 => (profile.clone(), os, prop::bool::weighted(0.8)).prop_map(|(name, os, is_sound)| Act::Profile { name, os, is_sound }),
        5 => (assignment.clone(), 0..SPECS).prop_map(|(name, spec)| Act::Assignment { name, spec }),
        1 => profile.prop_map(Act::GoneProfile),
        2 => assignment.prop_map(Act::GoneAssignment),
    ]
}

fn read<K: WatchedResource>(version: u64, name: &str, labels: Value, spec: Value) -> IndexEvent {
    let object = json!({
        "metadata": { "name": name, "namespace": "n", "resourceVersion": version.to_string(), "generation": version, "labels": labels },
        "spec": spec,
        "apiVersion": crd::API_VERSION,
        "kind": K::kind(&()),
    });
    let read =
        serde_json::from_value::<Parsed<K>>(object).expect("any object with metadata is parsed");
    IndexEvent::Put(Object::read(read).expect("it has a name"))
}

impl Act {
    fn step(&self, version: u64) -> IndexEvent {
        let key = |name: &str| boot::ObjectKey::new("n", name);
        match *self {
            Self::Profile { name, os, is_sound } => {
                let script = if is_sound {
                    "#!ipxe\nchain {{ config }}"
                } else {
                    "{{ nothing }}"
                };
                let spec = json!({ "ipxe": script, "additionalConfig": { "config": "x" } });
                read::<crd::Profile>(version, name, json!({ "os": os }), spec)
            }
            Self::VariableProfile { name, os } => {
                let spec = json!({ "ipxe": "#!ipxe\necho {{ vars.hostname }}" });
                read::<crd::Profile>(version, name, json!({ "os": os }), spec)
            }
            Self::Machine { name, spec } => {
                let (labels, spec) = machine(spec);
                read::<crd::Machine>(version, name, labels, spec)
            }
            Self::GoneMachine(name) => {
                IndexEvent::Deleted(ObjectRef::Machine(boot::ObjectKey::new("", name)))
            }
            Self::Assignment { name, spec: number } => {
                read::<crd::Assignment>(version, name, json!({}), spec(number))
            }
            Self::GoneProfile(name) => IndexEvent::Deleted(ObjectRef::Profile(key(name))),
            Self::GoneAssignment(name) => IndexEvent::Deleted(ObjectRef::Assignment(key(name))),
        }
    }
}

fn index() -> Index {
    Index::new(Arc::new(Publisher::new()))
}

/// Returns an index that evaluates Machines.
fn evaluating_index() -> Index {
    let mut index = index();
    index.start_evaluation();
    index
}

/// Evaluates until nothing is left to do. Returns the objects whose status may have to change.
fn evaluate_all(index: &mut Index) -> BTreeSet<ObjectRef> {
    let mut touched = BTreeSet::new();
    loop {
        if index.placements().needs_pass() {
            index.placements().begin_pass();
        }
        if !index.placements().has_work() {
            return touched;
        }
        touched.extend(index.evaluate_some());
    }
}

/// What each status says, without the random ids and without times.
fn conditions_now(index: &Index) -> BTreeMap<ObjectRef, Vec<(String, String, String)>> {
    let said = |name: &ObjectRef| {
        let write = index
            .pending_patch(name, Timestamp::UNIX_EPOCH)
            .expect("a status is pending");
        let mut said: Vec<_> = write
            .status
            .conditions()
            .iter()
            .map(|c| (c.type_.clone(), c.status.clone(), c.message.clone()))
            .collect();
        if let Status::Machine(status) = &write.status {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            said.push((
                text(&status.identities),
                text(&status.assignment),
                text(&status.profile),
            ));
        }
        said
    };
    index
        .names()
        .map(|name| (name.clone(), said(name)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_status_depends_only_on_the_objects_and_every_change_is_reported(
        batches in prop::collection::vec(prop::collection::vec(act(), 1..5), 1..12)
    ) {
        let mut by_steps = evaluating_index();
        let mut last_sound = BTreeMap::new();
        let mut version = 0;
        for batch in batches {
            let before = conditions_now(&by_steps);
            let mut steps = Vec::new();
            for act in batch {
                version += 1;
                let step = act.step(version);
                let name = step.name().clone();
                match &step {
                    IndexEvent::Put(object) if object.converted.is_ok() => {
                        last_sound.insert(name, vec![(act, version)]);
                    }
                    // The last valid version stays in use, so the order of events matters.
                    IndexEvent::Put(_) => {
                        let acts: &mut Vec<_> = last_sound.entry(name).or_default();
                        acts.truncate(1);
                        acts.retain(|(act, version)| matches!(act.step(*version), IndexEvent::Put(object) if object.converted.is_ok()));
                        acts.push((act, version));
                    }
                    IndexEvent::Deleted(_) => {
                        last_sound.remove(&name);
                    }
                }
                steps.push(step);
            }
            let mut touched = by_steps.apply(steps, 0);
            touched.extend(evaluate_all(&mut by_steps));
            let after = conditions_now(&by_steps);
            for (name, said) in &after {
                prop_assert!(before.get(name) == Some(said) || touched.contains(name), "the status of {name:?} changed, but it was not returned as touched");
            }
        }
        let mut at_once = evaluating_index();
        let mut acts: Vec<_> = last_sound.into_values().flatten().collect();
        acts.sort_by_key(|(_, version)| *version);
        for (act, version) in acts {
            at_once.apply([act.step(version)], 0);
        }
        evaluate_all(&mut at_once);
        prop_assert_eq!(conditions_now(&by_steps), conditions_now(&at_once));
        prop_assert_eq!(by_steps.counts(), at_once.counts());
    }
}

#[test]
fn a_version_older_than_the_written_one_is_not_new() {
    let mut index = index();
    index.apply([Act::Assignment { name: "a", spec: 0 }.step(5)], 0);
    let older = Act::Assignment { name: "a", spec: 2 }.step(4);
    let IndexEvent::Put(object) = &older else {
        unreachable!("it is put")
    };
    assert!(!index.is_new(object));
    // Versions are lower after a restore from a backup.
    index.forget_versions(|_| true);
    let IndexEvent::Put(object) = &older else {
        unreachable!("it is put")
    };
    assert!(index.is_new(object));
}

#[test]
fn an_object_without_a_known_version_is_not_written() {
    let mut index = index();
    let name = ObjectRef::Assignment(boot::ObjectKey::new("n", "a"));
    index.apply([Act::Assignment { name: "a", spec: 0 }.step(5)], 0);
    index.forget_versions(|_| true);
    assert!(
        index.pending_patch(&name, Timestamp::now()).is_none(),
        "a patch without a version would overwrite any concurrent change"
    );
    let touched = index.apply([Act::Assignment { name: "a", spec: 0 }.step(4)], 0);
    assert!(touched.contains(&name) && index.pending_patch(&name, Timestamp::now()).is_some());
}

#[test]
fn a_written_status_is_not_written_again() {
    let mut index = index();
    let name = ObjectRef::Profile(boot::ObjectKey::new("n", "p"));
    index.apply(
        [Act::Profile {
            name: "p",
            os: "x",
            is_sound: true,
        }
        .step(1)],
        0,
    );
    let write = index
        .pending_patch(&name, Timestamp::now())
        .expect("a status is pending");
    assert!(write.events.is_empty(), "{:?}", write.events);
    index.written(&write, "2");
    assert!(index.pending_patch(&name, Timestamp::now()).is_none());
    let ObjectRef::Profile(key) = &name else {
        unreachable!("it is a Profile")
    };
    assert_eq!(
        index
            .publisher
            .catalog()
            .load()
            .profile(key)
            .map(|profile| profile.ids.len()),
        Some(1)
    );
}

fn rejected(name: &'static str) -> IndexEvent {
    Act::Assignment { name, spec: 6 }.step(9)
}

#[test]
fn a_rejected_assignment_holds_its_machines_and_has_no_conflicts() {
    let mut index = index();
    index.apply(
        [
            Act::Assignment { name: "a", spec: 1 }.step(1),
            Act::Profile {
                name: "p",
                os: "y",
                is_sound: false,
            }
            .step(2),
        ],
        0,
    );
    index.apply(
        [
            rejected("b"),
            Act::Assignment { name: "c", spec: 5 }.step(4),
        ],
        0,
    );
    index.apply(
        [
            Act::Assignment { name: "a", spec: 2 }.step(5),
            Act::Assignment { name: "a", spec: 1 }.step(6),
        ],
        0,
    );
    assert_eq!(
        index.counts(),
        Counts {
            profiles: 1,
            assignments: 3,
            machines: 0,
            rejected: 3,
            conflicted: 0,
            unreadable: 1
        }
    );
    let message = |name: ObjectRef, kind: &str| {
        let write = index
            .pending_patch(&name, Timestamp::UNIX_EPOCH)
            .expect("a status is pending");
        let conditions = write.status.conditions();
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        found.expect("it has the condition").message.clone()
    };
    let of = |name: &str| ObjectRef::Assignment(boot::ObjectKey::new("n", name));
    assert!(
        message(of("b"), "Accepted").ends_with(
            "; its machines wait, unless an API replica still has its last valid version"
        )
    );
    assert!(
        message(of("c"), "Stalled")
            .ends_with("; its machines can't be determined and may get another Assignment")
    );
    assert_eq!(
        message(of("a"), "ProfileFound"),
        "the selectors match Profile p",
        "an invalid Profile is still selected"
    );
    let subject =
        boot::Subject::from_query("serial=S1", &boot::ExtrinsicLabels::default()).unwrap();
    let error = index
        .publisher
        .catalog()
        .load()
        .select(&subject)
        .unwrap_err();
    assert!(
        matches!(error, boot::NotSelected::NotAccepted { .. }),
        "{error}"
    );
}

#[test]
fn writing_ids_for_the_last_valid_version_keeps_the_object_rejected() {
    let mut index = index();
    let name = ObjectRef::Profile(boot::ObjectKey::new("n", "p"));
    index.apply(
        [Act::Profile {
            name: "p",
            os: "x",
            is_sound: true,
        }
        .step(1)],
        0,
    );
    index.apply(
        [Act::Profile {
            name: "p",
            os: "x",
            is_sound: false,
        }
        .step(2)],
        0,
    );
    let write = index
        .pending_patch(&name, Timestamp::now())
        .expect("a status is pending");
    index.written(&write, "3");
    let catalog = index.publisher.catalog().load();
    assert_eq!(
        catalog.profile(name.key()).map(|profile| profile.ids.len()),
        Some(1)
    );
    assert!(catalog.rejected(&name).is_some());
}

#[test]
fn index_and_catalog_share_the_key_of_an_object() {
    let mut index = index();
    let check = |index: &Index| {
        let catalog = index.publisher.catalog().load();
        let place = |key: &boot::ObjectKey| std::ptr::from_ref::<boot::name::Location>(key);
        let own = place(&catalog.assignments().next().expect("there is one").key);
        assert!(
            index.names().all(|name| place(name.key()) == own),
            "both keys share one allocation"
        );
    };
    index.apply([Act::Assignment { name: "a", spec: 0 }.step(1)], 0);
    check(&index);
    // A new version with the same meaning, one with another meaning, and an invalid one.
    index.apply([Act::Assignment { name: "a", spec: 0 }.step(2)], 0);
    check(&index);
    index.apply([Act::Assignment { name: "a", spec: 1 }.step(3)], 0);
    check(&index);
    index.apply([rejected("a")], 0);
    check(&index);
}

/// A Profile with one config that has this id.
fn profile_with_id(name: &str, version: u64, created: &str, id: uuid::Uuid) -> IndexEvent {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "n", "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": created, "labels": { "os": name },
        },
        "spec": { "ipxe": "#!ipxe\nchain {{ config }}", "additionalConfig": { "config": name } },
        "status": { "additionalConfig": { "config": id } },
        "apiVersion": crd::API_VERSION,
        "kind": "Profile",
    });
    let read = serde_json::from_value::<Parsed<crd::Profile>>(object).expect("it is parsed");
    IndexEvent::Put(Object::read(read).expect("it has a name"))
}

/// The Profile that is served under an id, if one is.
fn serves(index: &Index, id: uuid::Uuid) -> Option<String> {
    let catalog = index.publisher.catalog().load();
    let (profile, _) = catalog.config(id).ok()?;
    Some(profile.key.name.to_string())
}

#[test]
fn a_copied_id_stays_with_its_owner_and_the_copy_gets_a_new_one() {
    let id = uuid::Uuid::new_v4();
    for created in ["2020-01-01T00:00:00Z", "2027-01-01T00:00:00Z"] {
        let mut index = index();
        index.apply([profile_with_id("owner", 1, "2026-01-01T00:00:00Z", id)], 0);
        index.apply([profile_with_id("copy", 2, created, id)], 0);
        assert_eq!(serves(&index, id).as_deref(), Some("owner"));

        let copy = ObjectRef::Profile(boot::ObjectKey::new("n", "copy"));
        let write = index
            .pending_patch(&copy, Timestamp::now())
            .expect("a new id is pending");
        let Status::Profile(status) = &write.status else {
            unreachable!("it is a Profile")
        };
        let new = crd::config_ids(status)["config"];
        assert_ne!(new, id);
        let event = write.events.last().expect("there is an event");
        assert_eq!(
            (event.is_warning, &*event.reason),
            (true, "DuplicateConfigId")
        );
        assert!(
            event
                .note
                .starts_with("config config had the id of config config of Profile n/owner"),
            "{}",
            event.note
        );
        index.written(&write, "3");
        assert_eq!(serves(&index, id).as_deref(), Some("owner"));
        assert_eq!(serves(&index, new).as_deref(), Some("copy"));
        assert!(index.pending_patch(&copy, Timestamp::now()).is_none());
        index.apply(
            [IndexEvent::Deleted(ObjectRef::Profile(
                boot::ObjectKey::new("n", "owner"),
            ))],
            0,
        );
        assert_eq!(serves(&index, id), None, "the copy has its new id only");
    }
}

#[test]
fn of_profiles_in_one_list_the_older_keeps_the_id() {
    let id = uuid::Uuid::new_v4();
    let mut index = index();
    index.apply(
        [
            profile_with_id("a", 1, "2026-01-01T00:00:00Z", id),
            profile_with_id("b", 2, "2020-01-01T00:00:00Z", id),
        ],
        0,
    );
    assert_eq!(serves(&index, id).as_deref(), Some("b"));
    assert_eq!(index.publisher.catalog().load().duplicate_id_count(), 0);
}

#[test]
fn an_invalid_copy_takes_no_id_and_an_invalid_owner_keeps_its_id() {
    let id = uuid::Uuid::new_v4();
    let invalid = |name: &str, version| {
        let IndexEvent::Put(mut object) =
            profile_with_id(name, version, "2026-01-01T00:00:00Z", id)
        else {
            unreachable!("it is put")
        };
        let partial = boot::Profile::partial(object.name.key().clone(), None, &BTreeMap::new())
            .with_ids(object.meta.ids().clone());
        object.converted = Err(Box::new(Rejection {
            fault: Fault {
                reason: "InvalidTemplate",
                message: "it does not parse".into(),
            },
            partial: Partial::Profile(Arc::new(partial)),
        }));
        IndexEvent::Put(object)
    };
    let mut index = index();
    index.apply([invalid("owner", 1)], 0);
    index.apply([invalid("copy", 2)], 0);
    assert_eq!(serves(&index, id).as_deref(), Some("owner"));
}

/// A version of one Profile with these ids in its status, the last of which this manager wrote.
fn profile_with_status(version: u64, uid: u128, ids: &Value, manager: &str) -> IndexEvent {
    let object = json!({
        "metadata": {
            "name": "p", "namespace": "n", "resourceVersion": version.to_string(), "generation": 1,
            "uid": uuid::Uuid::from_u128(uid),
            "managedFields": [{
                "manager": manager, "operation": "Update", "subresource": "status", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:status": { "f:additionalConfig": { "f:config": {} } } },
            }],
        },
        "spec": { "ipxe": "#!ipxe\nchain {{ config }}", "additionalConfig": { "config": "x" } },
        "status": { "additionalConfig": ids },
        "apiVersion": crd::API_VERSION,
        "kind": "Profile",
    });
    let read = serde_json::from_value::<Parsed<crd::Profile>>(object).expect("it is parsed");
    IndexEvent::Put(Object::read(read).expect("it has a name"))
}

#[test]
fn ids_that_another_client_removes_or_changes_in_the_status_come_back() {
    let [id, other] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let name = ObjectRef::Profile(boot::ObjectKey::new("n", "p"));
    for (ids, manager) in [
        (json!({}), "kubectl"),
        (json!({ "config": "nonsense" }), "kubectl"),
        (json!({ "config": other }), "velero"),
    ] {
        let mut index = index();
        let first = json!({ "config": id });
        index.apply([profile_with_status(1, 7, &first, "shaper-controller")], 0);
        index.apply([profile_with_status(2, 7, &ids, manager)], 0);
        assert_eq!(serves(&index, id).as_deref(), Some("p"), "{ids}");
        assert_eq!(serves(&index, other), None, "{ids}");
        let write = index
            .pending_patch(&name, Timestamp::now())
            .expect("the old id is pending");
        let Status::Profile(status) = &write.status else {
            unreachable!("it is a Profile")
        };
        assert_eq!(crd::config_ids(status)["config"], id);
        let reasons: Vec<_> = write.events.iter().map(|event| &*event.reason).collect();
        assert_eq!(reasons, ["ConfigIdRestored"], "{ids}");
        index.written(&write, "3");
        assert_eq!(serves(&index, id).as_deref(), Some("p"));
        assert!(index.pending_patch(&name, Timestamp::now()).is_none());
    }
}

#[test]
fn an_id_that_a_controller_writes_counts_and_a_new_object_has_no_old_ids() {
    let [id, other] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let first = json!({ "config": id });
    let mut index = index();
    index.apply([profile_with_status(1, 7, &first, "shaper-controller")], 0);
    let ids = json!({ "config": other });
    index.apply([profile_with_status(2, 7, &ids, "shaper-controller")], 0);
    assert_eq!(serves(&index, other).as_deref(), Some("p"));
    assert_eq!(serves(&index, id), None);
    index.apply([profile_with_status(3, 8, &json!({}), "kubectl")], 0);
    assert_eq!(serves(&index, other), None, "the object is another one");
}
