//! Selection against a model, for a history of changes and lookups.

#[path = "../../crates/boot/tests/selection/agreement.rs"]
mod agreement;
#[path = "../../crates/boot/tests/selection/generators.rs"]
#[allow(dead_code, reason = "other tests want more of it")]
mod generators;
#[path = "../../crates/boot/tests/selection/model.rs"]
#[allow(dead_code, reason = "other tests want more of it")]
mod model;

use boot::Catalog;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The maximum number of events in one history.
const EVENTS: usize = 60;

/// Input: four bytes for each event, a change or a lookup, so that mutations can remove, repeat or
/// move events.
pub(crate) fn selection(bytes: &[u8]) {
    let (mut catalog, mut world) = (Catalog::new(), model::World::default());
    for event in bytes.chunks_exact(4).take(EVENTS) {
        if event[0] < 192 {
            drawn(event, &agreement::step()).apply(&mut catalog, &mut world);
        } else {
            agreement::assert_agrees(&catalog, &world, &drawn(event, &generators::subject()));
        }
    }
}

/// Draws from a generator, seeded by these bytes.
fn drawn<S: Strategy>(event: &[u8], strategy: &S) -> S::Value {
    let mut seed = [0; 32];
    seed[..event.len()].copy_from_slice(event);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(
        Config {
            failure_persistence: None,
            ..Config::default()
        },
        rng,
    );
    strategy
        .new_tree(&mut runner)
        .expect("nothing is filtered out")
        .current()
}
