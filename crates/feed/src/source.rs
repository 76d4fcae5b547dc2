//! The address of a partition's controllers: `[NAME=]URL`.

use std::fmt;
use std::str::FromStr;

use tls::PeerName;

/// The port of the feed if the URL has none.
pub const DEFAULT_PORT: u16 = 9443;

/// A controller, or all controllers that a host name resolves to, of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The partition; empty if there is only one.
    pub partition: Box<str>,
    /// A host name, or an IP address without brackets.
    pub host: Box<str>,
    /// The TCP port.
    pub port: u16,
    /// The host as it appears in the controller's certificate.
    pub peer: PeerName,
}

/// A text that is not a valid [`Source`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// It is not an `https` URL of only host and port.
    #[error("{0:?} is not the address of a controller; write [NAME=]https://HOST[:PORT]")]
    NotAUrl(String),
    /// It is an `http` URL.
    #[error("{0:?}: the feed is served only over TLS; write https://")]
    PlainHttp(String),
    /// The name of the partition is not valid.
    #[error(
        "{0:?} is not a partition name; use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"
    )]
    InvalidPartitionName(String),
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, url) = match text.split_once('=') {
            Some((name, url)) => (check_partition(name)?, url),
            None => ("", text),
        };
        let invalid = || InvalidSource::NotAUrl(text.to_owned());
        if url.starts_with("http://") {
            return Err(InvalidSource::PlainHttp(text.to_owned()));
        }
        let uri: http::Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(invalid)?;
        if uri.scheme_str() != Some("https")
            || !uri.path().trim_matches('/').is_empty()
            || uri.query().is_some()
        {
            return Err(invalid());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("" | ":") => DEFAULT_PORT,
            _ => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or_else(invalid)?,
        };
        let peer = host.parse().map_err(|_| invalid())?;
        Ok(Self {
            partition: partition.into(),
            host: host.into(),
            port,
            peer,
        })
    }
}

/// Checks the name of a partition. It must be a DNS label, since it is used in keys, metrics and
/// file names.
pub(crate) fn check_partition(name: &str) -> Result<&str, InvalidSource> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_are_plain = [name.bytes().next(), name.bytes().last()]
        .iter()
        .all(|end| end.is_some_and(is_plain));
    let is_name = name.len() <= 63
        && ends_are_plain
        && name.bytes().all(|byte| is_plain(byte) || byte == b'-');
    if is_name {
        Ok(name)
    } else {
        Err(InvalidSource::InvalidPartitionName(name.to_owned()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_url_with_an_optional_partition() {
        for (text, partition, shown) in [
            ("https://controller", "", "https://controller:9443"),
            (
                "https://controller.shaper.svc:1234/",
                "",
                "https://controller.shaper.svc:1234",
            ),
            ("west=https://10.0.0.1", "west", "https://10.0.0.1:9443"),
            (
                "eu-1=https://[2001:db8::1]:8443",
                "eu-1",
                "https://[2001:db8::1]:8443",
            ),
            ("https://[::1]", "", "https://[::1]:9443"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(
                (&*source.partition, source.to_string().as_str()),
                (partition, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn rejects_a_text_that_names_no_controller() {
        for text in [
            "",
            "controller",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://a:99999",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "a=b",
        ] {
            assert!(
                matches!(text.parse::<Source>(), Err(InvalidSource::NotAUrl(_))),
                "{text:?}: {:?}",
                text.parse::<Source>()
            );
        }
        assert!(matches!(
            "http://a".parse::<Source>(),
            Err(InvalidSource::PlainHttp(_))
        ));
        for text in [
            "=https://a",
            "West=https://a",
            "-=https://a",
            "a/b=https://a",
            "../a=https://a",
        ] {
            assert!(
                matches!(
                    text.parse::<Source>(),
                    Err(InvalidSource::InvalidPartitionName(_))
                ),
                "{text:?}"
            );
        }
    }
}
