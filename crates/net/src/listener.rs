//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens on a TCP address.
///
/// It belongs to no runtime until [`serve`](crate::serve) runs on it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

// === impl Listener ===

impl Listener {
    /// Listens on an address.
    ///
    /// `[::]` accepts IPv4 as well; on a machine without IPv6, it means `0.0.0.0`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open_any(address, None)?;
        let address = address_of(&socket)?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket, address })
    }

    /// Listens on an address with several sockets (`SO_REUSEPORT`), over which the kernel spreads
    /// connections: one for each thread.
    ///
    /// An address that another process or another call listens on is refused, as by
    /// [`bind`](Self::bind). `send_buffer` bounds the bytes of an answer that the kernel holds for
    /// a client that does not take them.
    pub fn bind_many(
        address: SocketAddr,
        count: usize,
        send_buffer: usize,
    ) -> io::Result<Vec<Self>> {
        // The first is bound alone, which fails where the address is taken, and shared afterwards.
        let first = open_any(address, Some(send_buffer))?;
        setsockopt(&first, sockopt::ReusePort, &true)?;
        let address = address_of(&first)?;
        let mut sockets = vec![first];
        for _ in 1..count {
            let socket = open(address, Some(send_buffer))?;
            setsockopt(&socket, sockopt::ReusePort, &true)?;
            socket.bind(&address.into())?;
            sockets.push(socket);
        }
        let listen = |socket: Socket| {
            socket.listen(BACKLOG)?;
            Ok(Self { socket, address })
        };
        sockets.into_iter().map(listen).collect()
    }

    /// The address it listens on, with the port that the kernel chose if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn into_tokio(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.socket.into())
    }
}

impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            socket: listener.into(),
            address,
        })
    }
}

/// Opens and binds a socket that shares its address with no other.
fn open_any(address: SocketAddr, send_buffer: Option<usize>) -> io::Result<Socket> {
    let bind = |address: SocketAddr| {
        let socket = open(address, send_buffer)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match bind(address) {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_ipv6() => bind(
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
        ),
        bound => bound,
    }
}

fn open(address: SocketAddr, send_buffer: Option<usize>) -> io::Result<Socket> {
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
    if let Some(bytes) = send_buffer {
        // Accepted connections inherit it.
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket)
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.ok_or(io::ErrorKind::Unsupported)?)
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok_and(|socket| {
        let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
        socket.bind(&any.into()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused() {
        let any = "127.0.0.1:0".parse().unwrap();
        let shared = Listener::bind_many(any, 2, 64 * 1024).unwrap();
        let alone = Listener::bind(any).unwrap();
        for taken in [&shared[0], &alone] {
            let address = taken.local_addr();
            let again = [
                Listener::bind(address).map(drop),
                Listener::bind_many(address, 1, 64 * 1024).map(drop),
                Listener::bind_many(address, 2, 64 * 1024).map(drop),
            ];
            for refused in again {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            }
        }
    }
}
