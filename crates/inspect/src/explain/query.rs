//! Parses a machine as pasted by a user.

use anyhow::bail;

/// Extracts the query from a query, a URL, or a log line that contains a URL, and appends the
/// labels.
pub(super) fn of(given: Option<&str>, labels: &[(String, String)]) -> anyhow::Result<String> {
    let given = given.unwrap_or_default().trim();
    if given.is_empty() && labels.is_empty() {
        bail!(
            "pass a machine: a query such as 'uuid=...&mac=...', a URL that contains one, or --label KEY=VALUE"
        );
    }
    let mut query = extract(given)?.to_owned();
    if query.contains("${") {
        bail!(
            "{query:?} contains an iPXE setting such as ${{uuid}}; write the value that the machine sends"
        );
    }
    for (key, value) in labels {
        boot::query::append(&mut query, key, value);
    }
    // A shell or a person may write a space, a request may not.
    Ok(query.replace(' ', "%20"))
}

fn extract(given: &str) -> anyhow::Result<&str> {
    if let Some((before, query)) = given.split_once('?') {
        // A query may contain a `?`, but not before its first `=`.
        if !before.contains('=') || before.contains("://") || before.contains('/') {
            return Ok(query
                .split([' ', '"', '\'', '#'])
                .next()
                .unwrap_or_default());
        }
    }
    if given.contains("://") || given.starts_with('/') {
        bail!("{given:?} contains no query; write the labels after a ?");
    }
    if !given.is_empty() && !given.contains('=') {
        bail!("{given:?} is not a query; write KEY=VALUE, such as 'uuid={given}' or 'mac={given}'");
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(given: &str) -> String {
        of(Some(given), &[]).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_query_is_extracted_from_urls_and_log_lines() {
        for given in [
            "uuid=1&mac=2",
            "?uuid=1&mac=2",
            "/ipxe?uuid=1&mac=2",
            "http://192.0.2.1:8080/ipxe?uuid=1&mac=2#x",
            r#"10.0.0.1 "GET /ipxe?uuid=1&mac=2 HTTP/1.1" 200"#,
        ] {
            assert_eq!(query(given), "uuid=1&mac=2", "{given}");
        }
        assert_eq!(query("product=R 640"), "product=R%20640");
        let labels = [("product".to_owned(), "a&b".to_owned())];
        assert_eq!(of(None, &labels).unwrap(), "product=a%26b");
        assert_eq!(of(Some("uuid=1"), &labels).unwrap(), "uuid=1&product=a%26b");
    }

    #[test]
    fn text_without_a_query_is_rejected_with_advice() {
        assert!(query("").starts_with("pass a machine"));
        assert!(query("http://192.0.2.1/ipxe").contains("contains no query"));
        assert!(query("uuid=${uuid}").contains("contains an iPXE setting"));
        assert!(query("SN1").contains("write KEY=VALUE"));
    }
}
