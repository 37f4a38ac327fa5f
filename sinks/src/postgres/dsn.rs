//! Reads a connection string: a URL or key-value pairs, both as libpq has them. Pure.
//!
//! The driver reads most of it. Taken out before are the settings of TLS, which the driver knows only in part: here TLS is
//! either off, or verifies the server's certificate and name, whatever of `require`, `verify-ca` and `verify-full` is given.
//! No error quotes the string, since a password that is not escaped may stand anywhere in it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use shardflow::{Error, Result};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Keys that the driver knows.
const KNOWN: [&str; 19] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Keys that libpq knows and this sink does not: they can be named without fear that they are part of a password.
const UNSUPPORTED: [&str; 14] = [
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcompression",
    "sslsni",
    "ssl_min_protocol_version",
    "passfile",
    "service",
    "gssencmode",
    "krbsrvname",
    "client_encoding",
    "replication",
    "requirepeer",
];

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Never.
    Off,
    /// Where the server offers it. Whoever sits in between can prevent it.
    IfOffered,
    /// Always, to a server whose certificate and name are right.
    Verified,
}

/// A connection string that was read.
#[derive(Clone)]
pub(crate) struct Dsn {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    /// Whose certificates are trusted; `None`: those that the system trusts.
    pub(crate) roots: Option<PathBuf>,
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("place", &format_args!("{}", self.place()))
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Dsn {
    /// Where it leads: `database "billing" at db.example.com:5432`. Nothing secret.
    pub(crate) fn place(&self) -> String {
        let port = |index: usize| {
            let ports = self.config.get_ports();
            ports.get(index).or(ports.first()).copied().unwrap_or(5432)
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        let addresses = self.config.get_hostaddrs().iter().map(ToString::to_string);
        let hosts = if hosts.is_empty() { addresses.collect() } else { hosts };
        let hosts = hosts.iter().enumerate().map(|(index, host)| format!("{host}:{}", port(index)));
        let at = hosts.collect::<Vec<_>>().join(",");
        match self.config.get_dbname() {
            // Of a URL whose password is not escaped, this may be the rest of it.
            Some(name) if name.contains('@') => format!("a database at {at}"),
            Some(name) => format!("database \"{name}\" at {at}"),
            None => format!("the user's database at {at}"),
        }
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

fn refuse(why: &str) -> Error {
    Error::config(format!("could not read the connection string for PostgreSQL: {why}"))
}

/// Reads a connection string.
///
/// # Errors
/// [`ErrorKind::Config`](shardflow::ErrorKind::Config), without any of its text.
pub(crate) fn parse(text: &str) -> Result<Dsn> {
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    let (driver, pairs) = if is_url { split_url(text)? } else { split_pairs(text)? };
    let mut mode = None;
    let mut roots = None;
    for (key, value) in pairs {
        match key.as_str() {
            "sslmode" => mode = Some(value),
            "sslrootcert" => roots = Some(PathBuf::from(value)),
            key if KNOWN.contains(&key) => {}
            key if UNSUPPORTED.contains(&key) => return Err(refuse(&format!("this sink has no \"{key}\""))),
            _ => {
                return Err(refuse("it has a key that is not known; a value with spaces stands between single quotes"));
            }
        }
    }
    let mut config: Config = driver.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        // This one text of the driver's is fixed; others quote what they did not understand.
        if cause.starts_with("invalid value for option") { refuse(&cause) } else { refuse("it has another form") }
    })?;
    check_hosts(&config)?;
    let tls = match mode.as_deref() {
        None if is_here(&config) => Tls::Off,
        None | Some("require" | "verify-ca" | "verify-full") => Tls::Verified,
        Some("disable") => Tls::Off,
        Some("prefer" | "allow") => Tls::IfOffered,
        Some(_) => return Err(refuse("\"sslmode\" is disable, prefer, require or verify-full")),
    };
    config.ssl_mode(match tls {
        Tls::Off => SslMode::Disable,
        Tls::IfOffered => SslMode::Prefer,
        Tls::Verified => SslMode::Require,
    });
    set_defaults(&mut config);
    Ok(Dsn { config, tls, roots })
}

/// A host that cannot be one is a sign of a password that is not escaped: it must not come into any error later.
fn check_hosts(config: &Config) -> Result<()> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(refuse("it names no host"));
    }
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%');
        !name.is_empty() && name.bytes().all(allowed)
    };
    let is_bad = |host: &Host| matches!(host, Host::Tcp(name) if !is_name(name));
    if config.get_hosts().iter().any(is_bad) {
        return Err(refuse(
            "its host is no name; a password with \"@\", \":\" or \"/\" in it is percent-encoded in a URL",
        ));
    }
    Ok(())
}

/// Whether the server is on this machine, so that nobody listens in between.
fn is_here(config: &Config) -> bool {
    let is_local = |address: IpAddr| address.is_loopback();
    let host = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(is_local),
    };
    config.get_hosts().iter().all(host) && config.get_hostaddrs().iter().copied().all(is_local)
}

/// A server that is gone without a word is noticed within a minute.
fn set_defaults(config: &mut Config) {
    const UNTOUCHED: Duration = Duration::from_secs(2 * 60 * 60);
    if config.get_application_name().is_none() {
        config.application_name("shardflow");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    if config.get_keepalives_idle() == UNTOUCHED {
        config.keepalives_idle(Duration::from_secs(15));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
}

type Pairs = Vec<(String, String)>;

/// Whether the driver is to see it.
fn is_ours(key: &str) -> bool {
    matches!(key, "sslmode" | "sslrootcert")
}

/// Splits a URL into what the driver reads and the pairs behind the question mark.
fn split_url(text: &str) -> Result<(String, Pairs)> {
    // A question mark in a password comes before the "@".
    let from = text.find('@').unwrap_or(0);
    let (before, rest) = text.split_at_checked(from).unwrap_or(("", text));
    let Some((place, query)) = rest.split_once('?') else { return Ok((text.to_owned(), Vec::new())) };
    let (mut driver, mut pairs) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| refuse("a key has no value"))?;
        let value = percent_decoded(value).ok_or_else(|| refuse("a value is not UTF-8"))?;
        if !is_ours(key) {
            driver.push(pair);
        }
        pairs.push((key.to_owned(), value));
    }
    let separator = if driver.is_empty() { "" } else { "?" };
    Ok((format!("{before}{place}{separator}{}", driver.join("&")), pairs))
}

/// `None`: it is no UTF-8. A "%" without two digits behind it stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.split_first_chunk::<2>().filter(|_| *byte == b'%');
        let code = digits.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = code.unwrap_or((*byte, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Splits `key=value` pairs, and writes down again those that the driver reads.
fn split_pairs(text: &str) -> Result<(String, Pairs)> {
    let mut chars = text.chars().peekable();
    let (mut driver, mut pairs) = (Vec::new(), Vec::new());
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let key: String = std::iter::from_fn(|| chars.next_if(|c| !c.is_whitespace() && *c != '=')).collect();
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() && chars.peek().is_none() {
            break;
        }
        if key.is_empty() || chars.next() != Some('=') {
            return Err(refuse("it is neither a postgres:// URL nor key=value pairs"));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let value = value(&mut chars)?;
        if !is_ours(&key) {
            driver.push(format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
        }
        pairs.push((key, value));
    }
    Ok((driver.join(" "), pairs))
}

/// A value, between single quotes or up to the next space; a backslash takes the character behind it as it is.
fn value(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String> {
    let is_quoted = chars.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match chars.peek() {
            None if is_quoted => return Err(refuse("a quoted value does not end")),
            None => return Ok(value),
            Some('\'') if is_quoted => {
                chars.next();
                return Ok(value);
            }
            Some(c) if !is_quoted && c.is_whitespace() => return Ok(value),
            Some(_) => {
                let c = chars.next().filter(|c| *c != '\\').or_else(|| chars.next());
                value.extend(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_and_pairs_say_the_same() {
        for text in [
            "postgres://app:s%20ecret@db.example.com:6432/billing?sslmode=verify-full&sslrootcert=/etc/rds%20ca.pem&connect_timeout=3",
            "postgresql://app:s ecret@db.example.com:6432/billing?connect_timeout=3&sslrootcert=/etc/rds ca.pem",
            "host=db.example.com port = 6432 user=app password='s ecret' dbname=billing sslmode=require \
             sslrootcert='/etc/rds ca.pem' connect_timeout=3",
            "  host=db.example.com port=6432 user=app password=s\\ ecret dbname=billing sslrootcert=/etc/rds\\ ca.pem connect_timeout=3 ",
        ] {
            let dsn = parse(text).unwrap();
            assert_eq!(dsn.place(), "database \"billing\" at db.example.com:6432", "{text}");
            assert_eq!(dsn.config.get_password(), Some(b"s ecret".as_slice()), "{text}");
            assert_eq!(dsn.config.get_user(), Some("app"), "{text}");
            assert_eq!(dsn.config.get_connect_timeout(), Some(&Duration::from_secs(3)), "{text}");
            assert_eq!(dsn.tls, Tls::Verified, "{text}");
            assert_eq!(dsn.roots, Some("/etc/rds ca.pem".into()), "{text}");
        }
    }

    #[test]
    fn only_what_stays_on_this_machine_goes_unencrypted_unasked() {
        for (text, tls) in [
            ("host=127.0.0.1", Tls::Off),
            ("host=localhost", Tls::Off),
            ("postgres://[::1]/db", Tls::Off),
            ("host=/var/run/postgresql", Tls::Off),
            ("host=localhost,db.example.com", Tls::Verified),
            ("host=localhost hostaddr=10.0.0.1", Tls::Verified),
            ("host=db.example.com", Tls::Verified),
            ("host=db.example.com sslmode=disable", Tls::Off),
            ("host=db.example.com sslmode=prefer", Tls::IfOffered),
            ("host=127.0.0.1 sslmode=verify-ca", Tls::Verified),
            ("postgres://127.0.0.1/db?sslmode=require", Tls::Verified),
        ] {
            assert_eq!(parse(text).unwrap().tls, tls, "{text}");
        }
    }

    #[test]
    fn a_gone_server_is_noticed_unless_the_user_says_otherwise() {
        let config = parse("host=localhost").unwrap().config;
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(15));
        let config = parse("host=localhost keepalives_idle=60 tcp_user_timeout=7").unwrap().config;
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(7)));
    }

    #[test]
    fn what_is_wrong_is_said_and_the_password_is_not() {
        for (text, what) in [
            ("host=h password=hunter2 port=x", "invalid value for option `port`"),
            ("host=h password=hunter2 sslmode=never", "sslmode"),
            ("host=h sslcert=/x password=hunter2", "no \"sslcert\""),
            ("host=h password=a hunter2", "neither a postgres:// URL"),
            ("host=h password=a hunter2=b", "a key that is not known"),
            ("host=h password='hunter2", "does not end"),
            ("user=x password=hunter2", "names no host"),
            ("postgres://u:a@hunter2@db/x", "its host is no name"),
            ("postgres://u:hunter2/x@db/x?hunter2", "a key has no value"),
            ("postgres://u:hunter2@db/x?hunter2=1", "a key that is not known"),
            ("hunter2", "neither a postgres:// URL"),
            ("", "names no host"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(parse("postgres://u:a@b/hunter2@db/x").unwrap().place(), "a database at b:5432");
        let shown = format!("{:?}", parse("host=h password=hunter2 user=u").unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("at h:5432"), "{shown}");
    }

    proptest! {
        #[test]
        fn every_password_arrives_in_pairs(password in "[^\0]{1,30}") {
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let dsn = parse(&format!("host=localhost password='{quoted}' sslmode=disable")).unwrap();
            prop_assert_eq!(dsn.config.get_password(), Some(password.as_bytes()));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", scheme in prop_oneof![Just(""), Just("postgres://"), Just("host=a ")]) {
            let _ = parse(&format!("{scheme}{text}"));
        }
    }
}
