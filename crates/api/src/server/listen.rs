//! The listening sockets: several on one address, among which the system spreads connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// What the kernel may hold of an answer that a client does not take. More is ours to count.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Listens on an address with so many sockets; `[::]` takes IPv4 as well, and is `0.0.0.0` where there is no IPv6. Says on which port.
pub(super) fn listen(address: SocketAddr, count: usize) -> io::Result<(Vec<Socket>, SocketAddr)> {
    let first = match open(address, false) {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_ipv6() => open(
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
            false,
        )?,
        opened => opened?,
    };
    let address = first
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::Unsupported)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(address, true)?);
    }
    sockets.iter().try_for_each(|socket| socket.listen(4096))?;
    Ok((sockets, address))
}

/// Binds a socket. One that does not share its address gets none that another has, this program run twice included; once it has it, others may
/// share it.
fn open(address: SocketAddr, is_sharing: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // What is accepted inherits it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    if is_sharing {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    socket.bind(&address.into())?;
    if !is_sharing {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    Ok(socket)
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok_and(|socket| {
        let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
        socket.bind(&any.into()).is_ok()
    })
}

/// A peer that hung up while it waited is no reason to slow down.
pub(super) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_listens_on_is_refused() {
        let (_sockets, address) = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        for count in [1, 2] {
            assert_eq!(
                listen(address, count).unwrap_err().kind(),
                io::ErrorKind::AddrInUse
            );
        }
    }
}
