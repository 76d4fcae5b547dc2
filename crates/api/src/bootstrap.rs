//! The first script of every machine: it finds a network card that reaches us, and asks for the script that is the machine's own.

use crate::base_url::BaseUrl;

/// Written for every iPXE from Debian 12's of 2019 on. What it says and why is in its own comments.
const TEMPLATE: &str = include_str!("bootstrap.ipxe");

/// The first script, for machines that reach the HTTP server under this address.
pub fn bootstrap(base_url: &BaseUrl) -> String {
    TEMPLATE.replace("@BASE_URL@", base_url.as_str())
}

#[cfg(test)]
mod tests {
    use boot::subject::PRESENTED;

    use super::*;

    #[test]
    fn it_makes_a_machine_say_what_is_expected_in_the_order_in_which_it_is_expected() {
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
            assert_eq!(keys, PRESENTED);
        }
    }
}
