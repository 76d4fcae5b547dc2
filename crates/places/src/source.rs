//! Where a holder comes from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where the holder of a place comes from: an address, in a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub(crate) prefix: u128,
    pub(crate) address: u128,
}

/// Marks prefixes that stand for an identity. They are in the multicast range of IPv6, so no
/// client's address has one.
const IDENTIFIED: u128 = 0xff << 120;

// === impl Source ===

impl Source {
    /// A source that has proved who it is, as by a client certificate. The identity takes the place
    /// of the prefix, so all its addresses share what one prefix may hold.
    pub fn identified(identity: &[u8], address: IpAddr) -> Self {
        let hash = ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(identity);
        Self {
            prefix: IDENTIFIED | u128::from(hash),
            address: bits(address),
        }
    }
}

impl Source {
    /// A number for the prefix, or for the identity.
    pub fn prefix(self) -> u128 {
        self.prefix
    }

    /// A number for the address.
    pub fn address(self) -> u128 {
        self.address
    }
}

impl fmt::Display for Source {
    /// Writes the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(Ipv6Addr::from_bits(self.address))
            .to_canonical()
            .fmt(f)
    }
}

impl From<IpAddr> for Source {
    /// The /24 of an IPv4 address, or the /56 of an IPv6 address. An IPv4 address that is mapped to
    /// IPv6 is one of IPv4.
    fn from(address: IpAddr) -> Self {
        let host_bits = match address.to_canonical() {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128 - 56,
        };
        let address = bits(address);
        Self {
            prefix: address >> host_bits << host_bits,
            address,
        }
    }
}

/// The bits of an address. IPv4 addresses are in the range that maps them to IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str) -> u128 {
        Source::from(address.parse::<IpAddr>().unwrap()).prefix
    }

    #[test]
    fn a_prefix_is_24_bits_of_ipv4_and_56_bits_of_ipv6() {
        assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.255"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8:0:ff::1"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:100::1"));
    }

    #[test]
    fn a_mapped_ipv4_address_is_the_same_source() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(Source::from(mapped), Source::from(plain));
    }

    #[test]
    fn an_identity_is_the_prefix_of_all_its_addresses() {
        let [one, other] = [[192, 0, 2, 1], [198, 51, 100, 1]].map(IpAddr::from);
        assert_eq!(
            Source::identified(b"replica", one).prefix,
            Source::identified(b"replica", other).prefix
        );
        assert_ne!(
            Source::identified(b"replica", one).prefix,
            Source::identified(b"another", one).prefix
        );
    }
}
