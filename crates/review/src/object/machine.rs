//! Checks a Machine.

use std::sync::Arc;

use boot::{Mac, ObjectKey, ObjectRef, identity};
use crd::FieldPath;

use super::{Reviewed, check_target_label, conversion_findings, placeholder_finding};

/// Checks a Machine: its conversion, its labels, and identities that many machines share.
pub fn machine(machine: &crd::Machine) -> Reviewed<boot::Machine> {
    let name = machine.metadata.name.as_deref().unwrap_or_default();
    let name = ObjectRef::Machine(ObjectKey::new("", name));
    let converted = match crd::convert_machine(machine) {
        Ok(converted) => converted,
        Err(error) => {
            return Reviewed {
                object: None,
                findings: conversion_findings(&name, &error),
            };
        }
    };
    let mut findings = Vec::new();
    let spec = &machine.spec;
    let uuid =
        |text: &&String| identity::parse_uuid(text).is_some_and(identity::is_placeholder_uuid);
    let serial = |text: &&String| identity::is_placeholder_serial(text);
    let mac = |text: &str| text.parse::<Mac>().is_ok_and(|mac| mac.is_placeholder());
    let field = |name: &str| FieldPath::new(["spec", name]);
    if let Some(text) = spec.uuid.as_ref().filter(uuid) {
        findings.push(placeholder_finding(&name, field("uuid"), text));
    }
    if let Some(text) = spec.serial_number.as_ref().filter(serial) {
        findings.push(placeholder_finding(&name, field("serialNumber"), text));
    }
    for (at, text) in spec.mac_addresses.iter().enumerate() {
        if mac(text) {
            findings.push(placeholder_finding(
                &name,
                field("macAddresses").index(at),
                text,
            ));
        }
    }
    for (key, value) in machine.metadata.labels.iter().flatten() {
        let labels = FieldPath::new(["metadata", "labels"]);
        check_target_label(&name, &labels, key, value, &mut findings);
    }
    Reviewed {
        object: Some(Arc::new(converted)),
        findings,
    }
}
