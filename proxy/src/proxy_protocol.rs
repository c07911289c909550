//! PROXY protocol version 2: for whom a load balancer connects. Taken only from addresses that are configured, and required from those.
//!
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use countersign_wire::{Reader, WireError};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
const HEAD: usize = 16;
/// More than any load balancer adds: addresses take 36 bytes at most (216 for Unix sockets), the rest are optional fields.
const MAX_BODY: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;

/// Why there is no header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The connection ended: a health check, most likely.
    #[error("closed before the PROXY header")]
    Gone,
    /// Something else came.
    #[error("not a PROXY header of version 2: {0} (is the protocol turned on at the load balancer?)")]
    Invalid(&'static str),
}

/// Reads the header and not a byte more. Gives the client's address; `None` when the load balancer speaks for itself. The caller bounds the time.
pub(crate) async fn read<S: AsyncRead + Unpin>(io: &mut S) -> Result<Option<SocketAddr>, HeaderError> {
    let mut head = [0_u8; HEAD];
    io.read_exact(&mut head).await.map_err(|_| HeaderError::Gone)?;
    let [signature @ .., command, family, high, low] = &head;
    if signature != SIGNATURE {
        return Err(HeaderError::Invalid("wrong signature"));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_BODY {
        return Err(HeaderError::Invalid("too long"));
    }
    let mut body = vec![0_u8; length];
    io.read_exact(&mut body).await.map_err(|_| HeaderError::Gone)?;
    match *command {
        LOCAL => Ok(None),
        PROXY => match address(*family, &body) {
            Ok(Some(address)) => Ok(Some(address)),
            Ok(None) => Err(HeaderError::Invalid("not for TCP over IP")),
            Err(_) => Err(HeaderError::Invalid("addresses cut off")),
        },
        _ => Err(HeaderError::Invalid("unknown version or command")),
    }
}

/// The source address: source and destination address, then source and destination port. `None` for other families.
fn address(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, WireError> {
    let mut reader = Reader::new(body);
    let address = match family {
        TCP_4 => {
            let source = IpAddr::V4(Ipv4Addr::from(reader.u32("source")?));
            reader.u32("destination")?;
            source
        }
        TCP_6 => {
            let source: [u8; 16] = reader.bytes(16, "source")?.try_into().unwrap_or_default();
            reader.bytes(16, "destination")?;
            IpAddr::V6(Ipv6Addr::from(source))
        }
        _ => return Ok(None),
    };
    let port = u16::try_from(reader.count("source port")?).unwrap_or_default();
    reader.count("destination port")?;
    Ok(Some(SocketAddr::new(address.to_canonical(), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), body].concat()
    }

    async fn read_all(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let mut rest = bytes;
        let found = read(&mut rest).await;
        (found, rest.len())
    }

    const V4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x19, 0x20];

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_behind_it() {
        let client = |text: &str| Ok(text.parse::<SocketAddr>().ok());
        let mut v6 = [0_u8; 36];
        if let Some(slot) = v6.first_chunk_mut::<16>() {
            *slot = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        }
        let with_fields = [V4, &[4, 0, 3, 1, 2, 3]].concat();
        for (bytes, expected) in [
            (header(PROXY, TCP_4, V4), client("203.0.113.9:12345")),
            (header(PROXY, TCP_4, &with_fields), client("203.0.113.9:12345")),
            (header(PROXY, TCP_6, &v6), client("[2001:db8::7]:0")),
            (header(LOCAL, 0, &[]), Ok(None)),
        ] {
            let followed = [bytes, b"next".to_vec()].concat();
            assert_eq!(read_all(&followed).await, (expected, 4));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = vec![0; MAX_BODY + 1];
        for bytes in [
            b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 6432\r\n".to_vec(),
            header(0x31, TCP_4, V4),
            header(0x22, TCP_4, V4),
            header(PROXY, 0x31, &[0; 216]),
            header(PROXY, 0x12, V4),
            header(PROXY, 0, &[]),
            header(PROXY, TCP_4, V4.split_last().map_or(V4, |(_, rest)| rest)),
            header(PROXY, TCP_6, V4),
            header(PROXY, TCP_4, &long),
        ] {
            assert!(matches!(read_all(&bytes).await.0, Err(HeaderError::Invalid(_))), "{bytes:?}");
        }
        let whole = header(PROXY, TCP_4, V4);
        for end in 0..whole.len() {
            assert_eq!(read_all(whole.get(..end).unwrap_or_default()).await.0, Err(HeaderError::Gone), "{end}");
        }
    }
}
