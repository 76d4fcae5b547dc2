//! The first script of every machine: it finds a network card that reaches us, and asks for the script that is the machine's own.

use crate::base_url::BaseUrl;

/// Written for every iPXE from Debian 12's of 2019 on. What it says and why is in its own comments.
const TEMPLATE: &str = include_str!("bootstrap.ipxe");

/// The first script, for machines that reach the HTTP server under this address.
pub fn bootstrap(base_url: &BaseUrl) -> String {
    TEMPLATE.replace("@BASE_URL@", base_url.as_str())
}
