//! The accept loop, as clients see it.

use std::net::SocketAddr;
use std::time::Duration;

use net::{Connection, Connections, CountedInput, Limits, Listener, Stage, WhenFull};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Far more than any of this takes.
const LONG: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    connections: Connections,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

/// A server that sends back the first byte of a connection and then waits for its end.
fn start(limits: Limits) -> Running {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (address, stop) = (listener.local_addr(), CancellationToken::new());
    let connections = Connections::new("echo", limits, Counter::default());
    let echo = |mut stream: CountedInput<TcpStream>, _connection: Connection| async move {
        if let Ok(byte) = stream.read_u8().await {
            assert_ne!(byte, b'!', "asked to panic");
            let _ = stream.write_u8(byte).await;
            let _ = stream.read_u8().await;
        }
    };
    Running {
        address,
        stop: stop.clone(),
        serving: tokio::spawn(net::serve(listener, connections.clone(), echo, stop)),
        connections,
    }
}

fn limits() -> Limits {
    Limits {
        connections: 100,
        when_full: WhenFull::Refuse,
        proof: Stage::HeadRead,
        grace: LONG,
        input_bytes: 1024 * 1024,
        answer_bytes: 1024,
        drain: LONG,
    }
}

async fn echo(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    stream.write_u8(byte).await?;
    timeout(LONG, stream.read_u8()).await.expect("it answers")
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(LONG, stream.read_u8()).await;
    read.is_ok_and(|read| read.is_err())
}

#[tokio::test]
async fn connections_that_the_kernel_established_before_the_stop_are_served() {
    let server = start(limits());
    // Nothing here has let the server's task run since they connected.
    let waiting: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(server.address).unwrap())
        .collect();
    server.stop.cancel();
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert_eq!(echo(&mut stream, b'a').await.unwrap(), b'a');
    }
    let ended = timeout(LONG, server.serving).await.unwrap();
    ended.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn connections_that_outlast_the_drain_are_closed() {
    for drain in [Duration::ZERO, Duration::from_millis(50)] {
        let server = start(Limits { drain, ..limits() });
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(echo(&mut stream, b'a').await.unwrap(), b'a');
        server.stop.cancel();
        server.serving.await.unwrap().unwrap();
        assert!(is_closed(&mut stream).await);
        assert!(server.connections.is_empty());
    }
}

#[tokio::test]
async fn a_full_server_closes_an_overdue_connection_on_the_wire() {
    let server = start(Limits {
        connections: 1,
        grace: Duration::ZERO,
        ..limits()
    });
    let mut first = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(echo(&mut first, b'a').await.unwrap(), b'a');
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(echo(&mut second, b'b').await.unwrap(), b'b');
    assert!(is_closed(&mut first).await);
    assert_eq!(server.connections.len(), 1);
}

#[tokio::test]
async fn a_full_server_refuses_and_serves_again_when_a_connection_ends() {
    let server = start(Limits {
        connections: 1,
        ..limits()
    });
    let mut first = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(echo(&mut first, b'a').await.unwrap(), b'a');
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    assert!(is_closed(&mut refused).await);
    drop(first);
    while !server.connections.is_empty() {
        sleep(Duration::from_millis(2)).await;
    }
    let mut next = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(echo(&mut next, b'c').await.unwrap(), b'c');
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let server = start(limits());
    let mut other = TcpStream::connect(server.address).await.unwrap();
    let mut panicking = TcpStream::connect(server.address).await.unwrap();
    panicking.write_u8(b'!').await.unwrap();
    assert!(is_closed(&mut panicking).await);
    assert_eq!(echo(&mut other, b'a').await.unwrap(), b'a');
    assert_eq!(server.connections.len(), 1);
}
