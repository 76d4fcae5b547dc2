//! The syntax of Kubernetes label keys and values.

/// Returns why a text is not a label key, or `None` if it is.
pub(crate) fn key_error(key: &str) -> Option<String> {
    let (prefix, name) = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        ref parts => {
            return Some(format!(
                "label key {key:?} has {} slashes; it may have one, as in assignment/ipxe-buildarch",
                parts.len() - 1
            ));
        }
    };
    if !is_label_name(name, 63) {
        return Some(format!(
            "label key {key:?}: the name must be 1 to 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit"
        ));
    }
    prefix.filter(|prefix| !is_dns_name(prefix)).map(|_| {
        format!("label key {key:?}: the part before the slash must be a DNS name of at most 253 lower-case letters, digits, '-' and '.'")
    })
}

/// Returns why a text is not a label value, or `None` if it is.
pub(crate) fn value_error(value: &str) -> Option<String> {
    (!value.is_empty() && !is_label_name(value, 63)).then(|| {
        format!("label value {value:?} must be at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit")
    })
}

/// Whether the text is a lower-case DNS name (RFC 1123), as object names and the prefixes of label
/// keys are. Kubernetes limits the total length but not that of each part.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let is_dns_label = |part: &str| {
        is_label_name(part, 253)
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_label_name(text: &str, max: usize) -> bool {
    let is_alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= max
        && is_alphanumeric(text.chars().next())
        && is_alphanumeric(text.chars().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_key_has_at_most_one_slash() {
        assert_eq!(key_error("assignment/ipxe-buildarch"), None);
        assert_eq!(key_error("region"), None);
        assert_eq!(key_error(&format!("{}/a", "x".repeat(253))), None);
        assert!(
            key_error("assigment/ipxe/buildarch")
                .unwrap()
                .contains("has 2 slashes")
        );
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "A.B/c",
            "-a",
            "a b",
            &"x".repeat(64),
            &format!("{}/a", "x".repeat(254)),
        ] {
            assert!(key_error(key).is_some(), "{key:?}");
        }
    }

    #[test]
    fn a_label_value_may_be_empty_but_has_no_spaces() {
        assert_eq!(value_error(""), None);
        assert_eq!(value_error("us-cal"), None);
        assert!(value_error("PowerEdge R640").is_some());
    }
}
