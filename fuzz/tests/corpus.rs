//! Runs every target on its corpus and on random mutations of it, on any compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// The number of mutated inputs for each target. They are the same in every run, unless
/// `SHAPER_FUZZ_CHANGED` and `SHAPER_FUZZ_SEED` say otherwise.
const CHANGED: u64 = 300;
const SEED: u64 = 0x5eed;

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is no number: {text}"))
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Runs a target on its corpus, then on mutations of it.
fn holds(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("the test has the name of a target");
    let folder = corpus().join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let inputs: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| {
            // If the process dies, the last name printed is the culprit.
            println!("{}", path.display());
            let input = fs::read(path).unwrap();
            (target.run)(&input);
            input
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let mut random = StdRng::seed_from_u64(number("SHAPER_FUZZ_SEED", SEED));
    for round in 0..number("SHAPER_FUZZ_CHANGED", CHANGED) {
        let input = changed(&inputs, &mut random);
        println!(
            "{name}, change {round}: {:?}",
            String::from_utf8_lossy(&input)
        );
        (target.run)(&input);
    }
}

/// Replaces, removes or adds some bytes of an input, or splices in some of another.
fn changed(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = inputs[random.random_range(0..inputs.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        let end = (at + random.random_range(1..20)).min(input.len());
        match random.random_range(0..5) {
            0 if at < input.len() => input[at] = random.next_u32().to_le_bytes()[0],
            1 => drop(input.drain(at..end)),
            2 => input.insert(
                at,
                b"\0\r\n \"%&=/?#${}|;\\\xff{{%"[random.random_range(0..20)],
            ),
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = &inputs[random.random_range(0..inputs.len())];
                let start = random.random_range(0..=other.len());
                let piece = other[start..(start + 40).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*

        #[test]
        fn each_target_has_a_corpus_and_a_test_and_no_other_has() {
            let tested: BTreeSet<_> = [$(stringify!($name).to_owned()),*].into();
            let named: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            let kept: BTreeSet<_> = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!((&named, &named), (&tested, &kept));
        }
    };
}

targets! {
    answer certificates config feed http identity labels manifests query raw_target reviews script selection template tftp_packet tftp_transfers
}
