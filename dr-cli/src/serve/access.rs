//! Who may ask: programs of this machine, or whoever knows a name and a password.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dr_core::ObjectHash;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};
use zeroize::Zeroizing;

/// Who may ask.
#[derive(Debug)]
pub(crate) enum Access {
    /// Programs of this machine. A page that a browser shows is none: its requests name the page's own host, also where that
    /// name was made to mean this machine.
    Local,
    /// Whoever knows the name and the password, of which a hash is kept.
    Password(ObjectHash),
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Host,
    Password,
}

impl Access {
    /// Asks for a name and a password.
    pub(crate) fn with_password(user: &str, password: &[u8]) -> Access {
        Access::Password(ObjectHash::of_parts([user.as_bytes(), b":", password]))
    }

    /// Whether a request with these headers is answered.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Access::Local => {
                let mut hosts = headers.get_all(HOST).iter();
                match (hosts.next().map(|host| host.to_str().unwrap_or_default()), hosts.next()) {
                    (Some(host), None) if is_local(host) => Ok(()),
                    _ => Err(Refusal::Host),
                }
            }
            // Hashes may be compared in any time: they say nothing of what they were made from.
            Access::Password(expected) => {
                let given = headers.get(AUTHORIZATION).and_then(|header| credentials(header.as_bytes()));
                let hash = given.map(|given| ObjectHash::of_parts([given.as_slice()]));
                if hash == Some(*expected) { Ok(()) } else { Err(Refusal::Password) }
            }
        }
    }
}

/// Whether a request's host, a port behind it, is this machine by a name that nobody else gives.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name, a colon and the password. Source: RFC 7617, section 2.
fn credentials(header: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    let encoded = encoded.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(encoded).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: hyper::header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_this_machine_may_ask_without_a_password() {
        for host in ["localhost", "LocalHost:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:9", "[::1]"] {
            assert_eq!(Access::Local.check(&headers(HOST, &[host])), Ok(()), "{host}");
        }
        for host in
            ["", "example.org", "localhost.example.org:80", "10.0.0.1", "[::2]", "127.0.0.1.nip.io", "::1"]
        {
            assert_eq!(Access::Local.check(&headers(HOST, &[host])), Err(Refusal::Host), "{host}");
        }
        assert_eq!(Access::Local.check(&HeaderMap::new()), Err(Refusal::Host));
        let two = headers(HOST, &["localhost", "example.org"]);
        assert_eq!(Access::Local.check(&two), Err(Refusal::Host));
    }

    #[test]
    fn a_password_is_asked_for_whatever_the_host() {
        let access = Access::with_password("ann", b"s3cret:\xff");
        let good = format!("Basic {}", STANDARD.encode(b"ann:s3cret:\xff"));
        assert_eq!(access.check(&headers(AUTHORIZATION, &[&good.replace("Basic", "basic")])), Ok(()));
        for other in ["ann:s3cret", "ann:s3cret:\u{ff}", "bob:s3cret:", ":"] {
            let header = format!("Basic {}", STANDARD.encode(other));
            assert_eq!(access.check(&headers(AUTHORIZATION, &[&header])), Err(Refusal::Password), "{other}");
        }
        for header in ["", "Basic", "Basic !", "Bearer abc"] {
            assert_eq!(access.check(&headers(AUTHORIZATION, &[header])), Err(Refusal::Password), "{header}");
        }
    }
}
