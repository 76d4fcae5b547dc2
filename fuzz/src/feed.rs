//! A part of the feed from a broken but authenticated peer.

use feed::{proto, wire};
use prost::Message;

/// Input: an encoded `Part` of `proto/shaper/feed/v1/feed.proto`.
pub(crate) fn feed(bytes: &[u8]) {
    let Ok(part) = proto::Part::decode(bytes) else {
        return;
    };
    for message in part.profiles {
        if let Ok(profile) = wire::decode_profile(message, "east", |_| None) {
            let again = wire::decode_profile(wire::encode_profile(&profile), "east", |_| None);
            assert_eq!(again.as_ref(), Ok(&profile));
            let known = std::sync::Arc::new(profile.clone());
            assert_eq!(
                wire::decode_profile(wire::encode_profile(&profile), "east", |_| Some(
                    known.clone()
                )),
                Ok(profile)
            );
        }
    }
    for message in part.assignments {
        if let Ok(assignment) = wire::decode_assignment(message, "east") {
            assert_eq!(
                wire::decode_assignment(wire::encode_assignment(&assignment), "east"),
                Ok(assignment)
            );
        }
    }
}
