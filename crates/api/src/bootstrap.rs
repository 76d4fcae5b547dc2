//! The bootstrap script: finds a network card that reaches the server and requests the machine's
//! script.

use crate::base_url::BaseUrl;

/// The template of the bootstrap script. It runs on every iPXE since the build of 2019 in Debian
/// 12; its comments explain each step.
const TEMPLATE: &str = include_str!("bootstrap.ipxe");

/// Renders the bootstrap script for machines that reach the server at this base URL.
pub fn bootstrap(base_url: &BaseUrl) -> String {
    TEMPLATE.replace("@BASE_URL@", base_url.as_str())
}

#[cfg(test)]
mod tests {
    use boot::subject::BOOTSTRAP_LABELS;

    use super::*;

    #[test]
    fn queries_of_the_script_have_the_labels_and_the_order_that_the_parser_expects() {
        let queries: Vec<_> = TEMPLATE
            .lines()
            .filter_map(|line| line.split_once("/ipxe?"))
            .map(|(_, rest)| rest)
            .collect();
        assert!(!queries.is_empty());
        for query in queries {
            let (query, _) = query.split_once(' ').expect("a query is a word");
            let keys: Vec<_> = query
                .split('&')
                .map(|pair| pair.split_once('=').expect("each has a value").0)
                .collect();
            assert_eq!(keys, BOOTSTRAP_LABELS);
        }
    }
}
