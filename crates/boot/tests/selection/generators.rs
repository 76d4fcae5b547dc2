//! Generates objects and machines from small domains, so that nearly everything collides.

use std::collections::BTreeMap;

use boot::ObjectKey;
use proptest::prelude::*;

use super::model::{self, Expression, RawAssignment, RawProfile, RawSubject};

pub(crate) fn key() -> impl Strategy<Value = ObjectKey> {
    let partition = prop_oneof![4 => Just(""), 1 => Just("east"), 1 => Just("west")];
    (
        prop::sample::select(&["n1", "n2"][..]),
        prop::sample::select(&["a", "b", "c", "d"][..]),
        partition,
    )
        .prop_map(|(ns, name, partition)| ObjectKey::new(ns, name).in_partition(partition))
}

pub(crate) fn created() -> impl Strategy<Value = Option<i64>> {
    prop::sample::select(vec![None, Some(1), Some(1), Some(2)])
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(&["r0", "r1", "r2"][..]).prop_map(str::to_owned)
}

fn pair() -> impl Strategy<Value = (String, String)> {
    let key = prop::sample::select(&["rack", "row", "region"][..]).prop_map(str::to_owned);
    let arch =
        prop::sample::select(&["x86_64", "amd64", "arm64", "aarch64"][..]).prop_map(str::to_owned);
    prop_oneof![4 => (key, value()), 1 => arch.prop_map(|arch| ("buildarch".to_owned(), arch))]
}

/// A requirement with at most two values.
pub(crate) fn expression() -> impl Strategy<Value = Expression> {
    expression_of(prop::collection::vec(value(), 0..3))
}

/// A requirement with any number of values: two of the longest make more tuples than the index
/// stores.
pub(crate) fn wide_expression() -> impl Strategy<Value = Expression> {
    let many = value().prop_map(|value| (0..9).map(|n| format!("v{n}")).chain([value]).collect());
    let very_many =
        value().prop_map(|value| (0..70).map(|n| format!("v{n}")).chain([value]).collect());
    expression_of(prop_oneof![3 => prop::collection::vec(value(), 0..3), 2 => many, 1 => very_many])
}

fn expression_of(values: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = Expression> {
    let operator = prop::sample::select(&["In", "In", "NotIn", "Exists", "DoesNotExist"][..]);
    (pair(), operator, values).prop_map(|((key, value), operator, mut values)| {
        if key == "buildarch" {
            values = vec![value];
        }
        Expression {
            key,
            operator,
            values,
        }
    })
}

pub(crate) fn profile_label() -> impl Strategy<Value = (String, String)> {
    let prefixed = (
        prop::sample::select(&["assignment/ipxe-", "assignment/extrinsic-"][..]),
        pair(),
    )
        .prop_map(|(prefix, (k, v))| (format!("{prefix}{k}"), v));
    prop_oneof![2 => prefixed, 1 => Just(("tier".to_owned(), "gold".to_owned()))]
}

/// An Assignment with requirements of this kind.
pub(crate) fn assignment(
    expression: impl Strategy<Value = Expression>,
) -> impl Strategy<Value = RawAssignment> {
    let few = |names: &'static [&'static str]| {
        let listed =
            prop::collection::vec(prop::sample::select(names).prop_map(str::to_owned), 1..3);
        prop_oneof![2 => Just(Vec::new()), 1 => listed]
    };
    let identities = (few(&model::UUIDS), few(&model::SERIALS), few(&model::MACS));
    let labels = (
        prop::collection::btree_map(Just("rack".to_owned()), value(), 0..2),
        prop::collection::vec(expression, 0..4),
    );
    let profiles = prop_oneof![
        1 => prop::collection::btree_map(Just("tier".to_owned()), Just("gold".to_owned()), 0..2),
        1 => profile_label().prop_map(|label| BTreeMap::from([label]))
    ];
    (key(), created(), identities, labels, (profiles, 0..3_i32)).prop_map(
        |(
            key,
            created,
            (uuids, serials, macs),
            (match_labels, expressions),
            (profiles, priority),
        )| RawAssignment {
            key,
            created,
            uuids,
            serials,
            macs,
            match_labels,
            expressions,
            profiles,
            priority,
        },
    )
}

pub(crate) fn profile() -> impl Strategy<Value = RawProfile> {
    let labels = prop::collection::vec(profile_label(), 0..4)
        .prop_map(|labels| labels.into_iter().collect());
    (key(), created(), labels).prop_map(|(key, created, labels)| RawProfile {
        key,
        created,
        labels,
    })
}

pub(crate) fn subject() -> impl Strategy<Value = RawSubject> {
    let one = |names: &'static [&'static str]| {
        prop::option::weighted(0.7, prop::sample::select(names).prop_map(str::to_owned))
    };
    let labels =
        prop::collection::vec(pair(), 0..4).prop_map(|labels| labels.into_iter().collect());
    let extrinsic = prop::collection::btree_map(
        prop::sample::select(&["region", "rack"][..]).prop_map(str::to_owned),
        value(),
        0..2,
    );
    (
        one(&model::PRESENTED_UUIDS),
        one(&model::PRESENTED_SERIALS),
        one(&model::PRESENTED_MACS),
        labels,
        extrinsic,
    )
        .prop_map(|(uuid, serial, mac, labels, extrinsic)| RawSubject {
            uuid,
            serial,
            mac,
            labels,
            extrinsic,
        })
}
