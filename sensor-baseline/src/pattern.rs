//! What stands in one line of a baseline: an object, or a set of objects that a person wrote. Not the index that
//! finds the right line (see `baseline`). May call: `object`, `matcher`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Action;
use crate::object::{
    Endpoint, Object, ObjectError, PathText, Protocol, parse_port, parse_rename, write_rename,
};

/// Addresses that share a prefix; a full-length prefix is one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Exactly this address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: full_prefix(address) }
    }

    /// Reads `ADDRESS` or `ADDRESS/PREFIX`.
    ///
    /// # Errors
    /// When the address or the prefix is wrong, or bits below the prefix are set.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        let wrong = || ObjectError::new("an IP address or CIDR such as 10.0.0.0/8", text);
        let (address, prefix) = match text.split_once('/') {
            None => return text.parse().map(Self::single).map_err(|_| wrong()),
            Some((address, prefix)) => (address, prefix),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix = parse_port(prefix)
            .and_then(|prefix| u8::try_from(prefix).ok())
            .filter(|prefix| *prefix <= full_prefix(address))
            .ok_or_else(|| {
                ObjectError::new("a prefix of 0 to 32 bits (IPv4) or 0 to 128 bits (IPv6)", text)
            })?;
        if masked(address, prefix) != address {
            return Err(ObjectError::new("a CIDR whose bits below the prefix are zero", text));
        }
        Ok(Self { address, prefix }.unmapped())
    }

    /// The same addresses as IPv4 when they are IPv4 mapped into IPv6: what is judged counts as IPv4 too.
    fn unmapped(self) -> Self {
        const MAPPED_BITS: u8 = 96;
        match self.prefix.checked_sub(MAPPED_BITS) {
            Some(prefix) if self.address.is_ipv6() && self.address.to_canonical().is_ipv4() => {
                Self { address: self.address.to_canonical(), prefix }
            }
            _ => self,
        }
    }

    /// The one address it holds; none when it holds many.
    pub(crate) fn only_address(self) -> Option<IpAddr> {
        (self.prefix == full_prefix(self.address)).then_some(self.address)
    }

    /// Whether it holds every address of its family.
    pub(crate) fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// Whether it holds addresses of this host alone.
    pub(crate) fn is_loopback(self) -> bool {
        let prefix_of_loopback = if self.address.is_ipv4() { 8 } else { 128 };
        self.address.is_loopback() && self.prefix >= prefix_of_loopback
    }

    /// Whether it holds the address; an IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == full_prefix(self.address) {
            return self.address.fmt(formatter);
        }
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// Ports of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// One port.
    One(u16),
    /// First and last port, both included.
    Range(u16, u16),
    /// Ports that a kernel hands out: [`EPHEMERAL_PORT_MIN`] and above.
    Ephemeral,
}

/// The lowest port of the ephemeral class: Linux hands out 32768 and above by default, others 49152 and above.
pub const EPHEMERAL_PORT_MIN: u16 = 32768;

impl Ports {
    /// Reads `PORT`, `FIRST-LAST` or `ephemeral`.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        let wrong = || ObjectError::new("a port from 1 to 65535, a range FIRST-LAST, or ephemeral", text);
        if text == "ephemeral" {
            return Ok(Self::Ephemeral);
        }
        let port = |text: &str| parse_port(text).filter(|port| *port > 0).ok_or_else(wrong);
        let Some((first, last)) = text.split_once('-') else { return Ok(Self::One(port(text)?)) };
        match (port(first)?, port(last)?) {
            (first, last) if first < last => Ok(Self::Range(first, last)),
            (first, last) if first == last => Ok(Self::One(first)),
            _ => Err(ObjectError::new("a port range whose first port is the lower one", text)),
        }
    }

    /// Whether it holds the port.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        match self {
            Self::One(one) => one == port,
            Self::Range(first, last) => (first..=last).contains(&port),
            Self::Ephemeral => port >= EPHEMERAL_PORT_MIN,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(formatter),
            Self::Range(first, last) => write!(formatter, "{first}-{last}"),
            Self::Ephemeral => formatter.write_str("ephemeral"),
        }
    }
}

/// The object part of one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// Of exec, write and delete.
    Path(PathText),
    /// Of rename.
    Rename {
        /// Old name.
        from: PathText,
        /// New name.
        to: PathText,
    },
    /// Of connect: `tcp NETWORK PORTS` or `udp NETWORK PORTS`.
    Connect {
        /// Transport.
        protocol: Protocol,
        /// Peers.
        network: Network,
        /// Their ports.
        ports: Ports,
    },
    /// Of listen: `tcp PORTS`, on any address, or `tcp ADDRESS PORTS`.
    Listen {
        /// The bound address; none is any.
        address: Option<IpAddr>,
        /// The bound ports.
        ports: Ports,
    },
}

impl Pattern {
    /// The smallest pattern that holds the object. A listener on every address becomes `tcp PORT`.
    #[must_use]
    pub fn of(action: Action, object: &Object) -> Self {
        match object {
            Object::Path(path) => Self::Path(path.clone()),
            Object::Rename { from, to } => Self::Rename { from: from.clone(), to: to.clone() },
            Object::Endpoint(endpoint) if action == Action::Listen => Self::Listen {
                address: Some(endpoint.address.to_canonical()).filter(|address| !is_every_address(*address)),
                ports: Ports::One(endpoint.port),
            },
            Object::Endpoint(endpoint) => Self::Connect {
                protocol: endpoint.protocol,
                network: Network::single(endpoint.address),
                ports: Ports::One(endpoint.port),
            },
        }
    }

    /// Reads the text of an entry under `action`.
    ///
    /// # Errors
    /// When the text does not fit the action.
    pub fn parse(action: Action, text: &str) -> Result<Self, ObjectError> {
        match action {
            Action::Exec | Action::Write | Action::Delete => Ok(Self::Path(PathText::parse(text)?)),
            Action::Rename => {
                let (from, to) = parse_rename(text)?;
                Ok(Self::Rename { from, to })
            }
            Action::Connect => parse_connect(text),
            Action::Listen => parse_listen(text),
        }
    }

    /// Whether it is an endpoint, and holds no other.
    pub(crate) fn is_one_endpoint(&self) -> bool {
        match self {
            Self::Connect { network, ports: Ports::One(_), .. } => {
                network.prefix == full_prefix(network.address)
            }
            Self::Listen { address: Some(_), ports: Ports::One(_) } => true,
            _ => false,
        }
    }

    /// Whether an endpoint is one of those meant.
    pub(crate) fn holds_endpoint(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Connect { protocol, network, ports } => {
                *protocol == endpoint.protocol
                    && network.contains(endpoint.address)
                    && ports.contains(endpoint.port)
            }
            Self::Listen { address, ports } => {
                endpoint.protocol == Protocol::Tcp
                    && address.is_none_or(|address| address == endpoint.address.to_canonical())
                    && ports.contains(endpoint.port)
            }
            Self::Path(_) | Self::Rename { .. } => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(formatter),
            Self::Rename { from, to } => write_rename(formatter, from, to),
            Self::Connect { protocol, network, ports } => {
                write!(formatter, "{} {network} {ports}", protocol.name())
            }
            Self::Listen { address: Some(address), ports } => write!(formatter, "tcp {address} {ports}"),
            Self::Listen { address: None, ports } => write!(formatter, "tcp {ports}"),
        }
    }
}

fn parse_connect(text: &str) -> Result<Pattern, ObjectError> {
    let mut words = text.split(' ');
    let protocol = words.next().and_then(Protocol::parse);
    match (protocol, words.next(), words.next(), words.next()) {
        (Some(protocol), Some(network), Some(ports), None) => {
            Ok(Pattern::Connect { protocol, network: Network::parse(network)?, ports: Ports::parse(ports)? })
        }
        _ => Err(ObjectError::new(CONNECT_EXPECTED, text)),
    }
}

fn parse_listen(text: &str) -> Result<Pattern, ObjectError> {
    let mut words = text.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("tcp"), Some(ports), None, None) => {
            Ok(Pattern::Listen { address: None, ports: Ports::parse(ports)? })
        }
        (Some("tcp"), Some(address), Some(ports), None) => {
            let address: IpAddr =
                address.parse().map_err(|_| ObjectError::new("an IP address to listen on", address))?;
            Ok(Pattern::Listen { address: Some(address.to_canonical()), ports: Ports::parse(ports)? })
        }
        _ => Err(ObjectError::new("tcp PORT or tcp ADDRESS PORT", text)),
    }
}

/// What an entry of connect looks like.
pub(crate) const CONNECT_EXPECTED: &str = "tcp or udp, ADDRESS-OR-CIDR, and PORT, PORT-PORT or ephemeral";

fn is_every_address(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with the bits below the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use crate::model::Action;
    use crate::object::Object;

    fn holds(action: Action, pattern: &str, endpoint: &str) -> bool {
        let Object::Endpoint(endpoint) = Object::parse(action, endpoint).unwrap() else { unreachable!() };
        Pattern::parse(action, pattern).unwrap().holds_endpoint(&endpoint)
    }

    #[test]
    fn a_network_holds_the_addresses_of_its_prefix_only() {
        for (pattern, endpoint, expected) in [
            ("tcp 10.0.0.0/8 5432", "tcp 10.255.0.1 5432", true),
            ("tcp 10.0.0.0/8 5432", "tcp 11.0.0.1 5432", false),
            ("tcp 10.0.0.0/8 5432", "tcp 10.0.0.1 5433", false),
            ("tcp 10.0.0.0/8 5432", "tcp ::ffff:10.0.0.1 5432", true),
            ("tcp ::ffff:10.0.0.0/104 5432", "tcp 10.0.0.1 5432", true),
            ("tcp ::ffff:10.0.0.0/104 5432", "tcp ::ffff:11.0.0.1 5432", false),
            ("tcp ::ffff:0.0.0.0/96 5432", "tcp 10.0.0.1 5432", true),
            ("tcp 0.0.0.0/0 443", "tcp 8.8.8.8 443", true),
            ("tcp 0.0.0.0/0 443", "tcp ::1 443", false),
            ("tcp ::/0 443", "tcp 2001:db8::1 443", true),
            ("tcp 2001:db8::/32 80-90", "tcp 2001:db8::1 90", true),
            ("tcp 2001:db8::/32 80-90", "tcp 2001:db8::1 91", false),
            ("tcp 127.0.0.1 ephemeral", "tcp 127.0.0.1 32768", true),
            ("udp 10.0.0.0/8 53", "udp 10.0.0.1 53", true),
            ("udp 10.0.0.0/8 53", "tcp 10.0.0.1 53", false),
            ("tcp 10.0.0.0/8 53", "udp 10.0.0.1 53", false),
            ("tcp 127.0.0.1 ephemeral", "tcp 127.0.0.1 32767", false),
        ] {
            assert_eq!(holds(Action::Connect, pattern, endpoint), expected, "{pattern}: {endpoint}");
        }
    }

    #[test]
    fn a_mapped_network_is_written_as_ipv4() {
        for (text, expected) in [
            ("tcp ::ffff:10.0.0.0/104 80", "tcp 10.0.0.0/8 80"),
            ("tcp ::ffff:1.2.3.4/128 80", "tcp 1.2.3.4 80"),
            ("tcp ::ffff:0.0.0.0/95 80", "a CIDR whose bits"),
        ] {
            let read = Pattern::parse(Action::Connect, text);
            let read = read.map_or_else(|error| error.to_string(), |pattern| pattern.to_string());
            assert!(read.contains(expected), "{text}: {read}");
        }
    }

    #[test]
    fn a_listener_without_an_address_is_on_any() {
        assert!(holds(Action::Listen, "tcp 80", "tcp 0.0.0.0 80"));
        assert!(holds(Action::Listen, "tcp 80", "tcp 127.0.0.1 80"));
        assert!(!holds(Action::Listen, "tcp 127.0.0.1 80", "tcp 0.0.0.0 80"));
        assert!(!holds(Action::Listen, "tcp 80", "tcp 0.0.0.0 81"));
        let any = Object::parse(Action::Listen, "tcp :: 80").unwrap();
        assert_eq!(Pattern::of(Action::Listen, &any).to_string(), "tcp 80");
    }

    #[test]
    fn wrong_endpoints_say_what_was_expected() {
        for (action, text, message) in [
            (Action::Connect, "tcp 10.0.0.0/33 80", "expected a prefix of 0 to 32"),
            (Action::Connect, "tcp 10.0.0.1/8 80", "bits below the prefix are zero"),
            (Action::Connect, "tcp 10.0.0 80", "expected an IP address or CIDR"),
            (Action::Connect, "tcp 10.0.0.1 0", "expected a port from 1 to 65535"),
            (Action::Connect, "tcp 10.0.0.1 99999", "found \"99999\""),
            (Action::Connect, "tcp 10.0.0.1 90-80", "first port is the lower"),
            (Action::Connect, "10.0.0.1:80", "expected tcp or udp, ADDRESS-OR-CIDR"),
            (Action::Listen, "80", "expected tcp PORT"),
            (Action::Listen, "tcp 10.0.0.0/8 80", "expected an IP address to listen on"),
        ] {
            let error = Pattern::parse(action, text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written_as_it_is_read(
            action in proptest::sample::select(Action::ALL.to_vec()),
            path in "(/([a-z.*<>~ -]|\\\\x[0-9a-f]{2}|<num>|<hex2>|<tmp6>|\\*\\*| -> ){0,6}){1,3}",
            endpoint in "tcp (::ffff:|::|fe80::)?([0-9]{1,3}\\.0\\.0\\.0)?(/[0-9]{1,3})? ?(ephemeral|[0-9]{1,5}(-[0-9]{1,5})?)",
        ) {
            let text = if matches!(action, Action::Connect | Action::Listen) { &endpoint } else { &path };
            if let Ok(pattern) = Pattern::parse(action, text) {
                let written = pattern.to_string();
                proptest::prop_assert_eq!(Pattern::parse(action, &written), Ok(pattern), "{}: {}", text, written);
            }
        }
    }
}
