//! Opens TCP connections, whatever the addresses of a host are worth.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::connection::Trouble;
use super::settings::Settings;

/// How long an address may take to answer before the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Opens a TCP connection to the address of the host that accepts it first. Attempts begin in order, so that
/// an address that does not answer costs little.
pub(super) async fn dial(host: &str, port: u16, settings: &Settings) -> Result<TcpStream, Trouble> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| Trouble::Io(format!("cannot resolve '{host}': {e}")))?;
    let addresses = addresses.filter(|a| settings.address_family.allows(a));
    let mut addresses = addresses.peekable();
    let mut attempts = FuturesUnordered::new();
    let mut last = Trouble::Io(format!("'{host}' has no usable address"));
    loop {
        attempts.extend(addresses.next().map(|a| connect(a, settings.setup_timeout)));
        let next = match addresses.peek() {
            Some(_) => tokio::time::timeout(NEXT_ADDRESS, attempts.next()).await,
            None => Ok(attempts.next().await),
        };
        match next {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(trouble))) => last = trouble,
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

async fn connect(address: SocketAddr, within: Duration) -> Result<TcpStream, Trouble> {
    let outcome = tokio::time::timeout(within, TcpStream::connect(address)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        let reason = format!("no answer within {} ms", within.as_millis());
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    });
    let stream = outcome.map_err(|e| Trouble::Io(format!("connecting to {address}: {e}")))?;
    // Requests are small and wait for their answers.
    stream.set_nodelay(true)?;
    Ok(stream)
}
