//! How PostgreSQL is reached.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use super::trouble::chain;
use super::watch::Watched;
use crate::error::{Error, Result};
use crate::policy::{MAX_FILE_BYTES, Policy, read_bounded};

/// How long connecting may take unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that takes nothing for so long is gone.
const TCP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a statement waits for a lock of another session.
pub(super) const LOCK_TIMEOUT_MS: u32 = 10_000;

/// The server ends a session that stands still in a transaction for so long. Sessions that are
/// alive send a sign of life three times as often.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The variable that libpq takes a password from: that of the hosts in [`HOST_VARIABLE`].
pub(super) const PASSWORD_VARIABLE: &str = "PGPASSWORD";
/// The variable that libpq takes hosts from.
pub(super) const HOST_VARIABLE: &str = "PGHOST";

/// The port of a server, unless the URL says otherwise.
const PORT: u16 = 5432;

/// A server and a database, with credentials. Neither `Debug` nor errors show them.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Whether a password might go to another machine without TLS.
    watched: bool,
    shown: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Reads a URL such as `postgres://user@host:5432/db?sslmode=require`.
    ///
    /// A certificate of the server is always verified, against `root_certificates` or those of the
    /// system; `sslmode` only decides whether there must be TLS (`require`, `verify-ca`,
    /// `verify-full`), may be (`prefer`, the default) or must not be (`disable`).
    ///
    /// A password in clear goes to this machine or through TLS, and nowhere else.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the URL or the file of certificates is not one, or the policy does not allow
    /// its hosts or files.
    pub(super) fn parse(
        url: &str,
        password: Option<&str>,
        root_certificates: Option<&Path>,
        policy: &Policy,
    ) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::invalid(format!(
                "LOCATION is no URL of a PostgreSQL database ({reason}); \
                 expected 'postgres://user@host:5432/database'"
            ))
        };
        let mut url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("its scheme is not 'postgres'"));
        }
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        let mut mode = SslMode::Prefer;
        let mut certificates = root_certificates.map(Path::to_owned);
        for (name, value) in pairs {
            match (name.as_str(), value.as_str()) {
                ("sslmode", "disable") => mode = SslMode::Disable,
                ("sslmode", "allow" | "prefer") => mode = SslMode::Prefer,
                ("sslmode", "require" | "verify-ca" | "verify-full") => mode = SslMode::Require,
                ("sslmode", _) => {
                    return Err(wrong(
                        "'sslmode' is one of disable, allow, prefer, require, verify-ca, verify-full",
                    ));
                }
                ("sslrootcert", _) => {
                    certificates.get_or_insert_with(|| PathBuf::from(value));
                }
                _ => {
                    url.query_pairs_mut().append_pair(&name, &value);
                }
            }
        }
        // The library's own words name the parameter and never its value.
        let mut config: Config = url
            .as_str()
            .parse()
            .map_err(|error: tokio_postgres::Error| wrong(&chain(&error)))?;
        config.ssl_mode(mode);
        if let Some(password) = password {
            config.password(password);
        } else if config.get_password().is_none()
            && let Ok(password) = std::env::var(PASSWORD_VARIABLE)
            && is_of_environment(&config, &std::env::var(HOST_VARIABLE).unwrap_or_default())
        {
            config.password(password);
        }
        check_allowed(&config, policy)?;
        if let Some(file) = &certificates {
            policy.check_path("the file of certificates", file)?;
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.tcp_user_timeout(TCP_TIMEOUT);
        let tls = match mode {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls(certificates.as_deref())?)),
        };
        let watched =
            mode != SslMode::Require && config.get_password().is_some() && !is_local(&config);
        if watched && config.get_target_session_attrs() != TargetSessionAttrs::Any {
            return Err(wrong("'target_session_attrs' needs 'sslmode=require'"));
        }
        let shown = shown(&config);
        Ok(Self {
            config,
            tls,
            watched,
            shown,
        })
    }

    /// Opens a connection whose statements do not wait for ever.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let client = match &self.tls {
            _ if self.watched => self.connect_watched().await?,
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                tokio::spawn(drive(connection));
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(drive(connection));
                client
            }
        };
        client
            .batch_execute(&format!(
                "SET lock_timeout = {LOCK_TIMEOUT_MS}; \
                 SET idle_in_transaction_session_timeout = {}; \
                 SET timezone = 'UTC'; SET datestyle = 'ISO'; \
                 SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'",
                IDLE_TIMEOUT.as_millis()
            ))
            .await?;
        Ok(client)
    }
}

impl Address {
    /// The same over a connection whose handshake is watched.
    async fn connect_watched(&self) -> Result<Client, tokio_postgres::Error> {
        let (host, stream) = self.dial().await;
        if let Ok(stream) = &stream {
            let socket = socket2::SockRef::from(stream);
            // As the library sets its own connections up; a socket that refuses works all the same.
            let _ = stream.set_nodelay(true);
            let _ = socket.set_keepalive(true);
            #[cfg(target_os = "linux")]
            let _ = socket.set_tcp_user_timeout(Some(TCP_TIMEOUT));
        }
        let Some(mut tls) = self.tls.clone() else {
            let stream = Watched::new(stream, false);
            let (client, connection) = self.config.connect_raw(stream, NoTls).await?;
            tokio::spawn(drive(connection));
            return Ok(client);
        };
        let Ok(tls) = MakeTlsConnect::<Watched>::make_tls_connect(&mut tls, &host);
        let stream = Watched::new(stream, true);
        let (client, connection) = self.config.connect_raw(stream, tls).await?;
        tokio::spawn(drive(connection));
        Ok(client)
    }

    /// Connects to the first of the hosts that takes a connection.
    async fn dial(&self) -> (String, io::Result<TcpStream>) {
        let mut failed = (
            String::new(),
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no host is named",
            )),
        );
        let limit = self.config.get_connect_timeout().copied();
        for (name, address, port) in places(&self.config) {
            let target = address.map_or_else(|| name.clone(), |address| address.to_string());
            let dialing = TcpStream::connect((target, port));
            let dialed = tokio::time::timeout(limit.unwrap_or(CONNECT_TIMEOUT), dialing).await;
            let dialed = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let done = dialed.is_ok();
            failed = (name, dialed);
            if done {
                break;
            }
        }
        failed
    }
}

/// The servers that settings name: name, address if it was given, and port. One on this machine that is
/// reached by a file has none.
fn places(config: &Config) -> Vec<(String, Option<IpAddr>, u16)> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    (0..hosts.len().max(addresses.len()))
        .filter_map(|i| {
            let address = addresses.get(i).copied();
            let name = match hosts.get(i) {
                Some(Host::Tcp(name)) => name.clone(),
                #[cfg(unix)]
                Some(Host::Unix(_)) if address.is_none() => return None,
                _ => address?.to_string(),
            };
            let port = ports.get(i).or(ports.first()).copied();
            Some((name, address, port.unwrap_or(PORT)))
        })
        .collect()
}

/// Whether all servers are on this machine.
fn is_local(config: &Config) -> bool {
    places(config)
        .iter()
        .all(|(name, address, _)| match address {
            Some(address) => address.is_loopback(),
            None => is_loopback(name),
        })
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether the environment's password is that of all servers: they are those of the variable, which names
/// them with commas between, or on this machine.
fn is_of_environment(config: &Config, hosts: &str) -> bool {
    let named = |name: &str| {
        hosts
            .split(',')
            .any(|host| host.trim().eq_ignore_ascii_case(name))
    };
    is_local(config)
        || places(config)
            .iter()
            .all(|(name, address, _)| address.is_none() && named(name))
}

fn check_allowed(config: &Config, policy: &Policy) -> Result<()> {
    for (name, address, port) in places(config) {
        policy.check_host("the database", &name, Some(port))?;
        if let Some(address) = address {
            policy.check_host("the database", &address.to_string(), Some(port))?;
        }
    }
    #[cfg(unix)]
    for host in config.get_hosts() {
        if let Host::Unix(path) = host {
            policy.check_path("the database's socket", path)?;
        }
    }
    Ok(())
}

/// Runs until the client is dropped or the connection is lost; the client's calls tell of that.
async fn drive<T: Future<Output = Result<(), tokio_postgres::Error>>>(connection: T) {
    if let Err(error) = connection.await {
        log::debug!("connection to PostgreSQL: {}", chain(&error));
    }
}

fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(PORT);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("postgres://{host}:{port}/{database}")
}

fn tls(root_certificates: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = root_certificates {
        let wrong = |reason: String| {
            Error::invalid(format!(
                "option 'ssl.root.cert' = '{}': {reason}",
                path.display()
            ))
        };
        let pem = read_bounded(path, MAX_FILE_BYTES).map_err(|e| wrong(e.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("there is no certificate (PEM) in it".to_owned()));
        }
    } else {
        // None of them may be readable; then a server's certificate is refused by its name.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid(format!("TLS: {error}")).because(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The location of a table without its password.
pub(super) fn hidden(location: &str) -> String {
    let Ok(mut url) = Url::parse(location) else {
        return "***".to_owned();
    };
    // Fails for URLs that cannot have one.
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs.iter().any(|(name, _)| name == "password") {
        let mut query = url.query_pairs_mut();
        query.clear();
        for (name, value) in &pairs {
            let value = if name == "password" { "***" } else { value };
            query.append_pair(name, value);
        }
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::super::trouble::{passes, reason};
    use super::*;

    fn address(url: &str) -> Result<Address> {
        Address::parse(url, None, None, &Policy::default())
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = "postgres://alice:hunter2@db:6543/shop?sslmode=disable";
        let address = address(url).unwrap();
        assert_eq!(format!("{address:?}"), "postgres://db:6543/shop");
        assert_eq!(
            hidden(url),
            "postgres://alice:***@db:6543/shop?sslmode=disable"
        );
        assert_eq!(
            hidden("postgres://db/shop?password=hunter2&user=bob"),
            "postgres://db/shop?password=***&user=bob"
        );
    }

    #[test]
    fn wrong_urls_are_refused_without_their_values() {
        for url in [
            "mysql://alice:hunter2@db/shop",
            "postgres://alice:hunter2@db/shop?sslmode=hunter2",
            "postgres://alice:hunter2@db/shop?connect_timeout=hunter2",
            "db/hunter2",
        ] {
            let error = address(url).unwrap_err().to_string();
            assert!(error.contains("LOCATION"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_of_certificates_must_hold_some() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = "postgres://db/shop?sslmode=verify-full";
        let error = Address::parse(url, None, Some(file.path()), &Policy::default()).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }

    #[test]
    fn passwords_of_the_environment_stay_with_its_hosts() {
        let of_environment = |url: &str, hosts: &str| {
            let config: Config = url.parse().unwrap();
            is_of_environment(&config, hosts)
        };
        for (url, hosts, expected) in [
            ("postgres://db/shop", "", false),
            ("postgres://db/shop", "db", true),
            ("postgres://DB:7777/shop", "a, db", true),
            ("postgres://db,evil/shop", "db", false),
            ("postgres://db/shop?hostaddr=6.6.6.6", "db", false),
            ("postgres://localhost/shop", "", true),
            ("postgres://127.0.0.1/shop", "db", true),
            ("postgres://[::1]/shop", "", true),
            ("postgres://localhost/shop?hostaddr=6.6.6.6", "", false),
            ("postgres:///shop?host=/run/postgresql", "", true),
        ] {
            assert_eq!(of_environment(url, hosts), expected, "{url} {hosts}");
        }
    }

    #[test]
    fn other_machines_without_tls_are_watched() {
        for (url, watched) in [
            ("postgres://a:b@db/shop", true),
            ("postgres://a:b@db/shop?sslmode=disable", true),
            ("postgres://a:b@db/shop?sslmode=require", false),
            ("postgres://a@db/shop", false),
            ("postgres://a:b@localhost/shop?sslmode=disable", false),
            ("postgres://a:b@localhost/shop?hostaddr=6.6.6.6", true),
        ] {
            assert_eq!(address(url).unwrap().watched, watched, "{url}");
        }
    }

    #[tokio::test]
    async fn no_password_is_sent_in_clear() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut heard = vec![];
            for asked_for_tls in [true, false] {
                let (mut client, _) = server.accept().await.unwrap();
                let mut bytes = [0; 1024];
                if asked_for_tls {
                    assert_eq!(client.read(&mut bytes).await.unwrap(), 8);
                    client.write_all(b"N").await.unwrap();
                }
                let read = client.read(&mut bytes).await.unwrap();
                heard.extend_from_slice(&bytes[..read]);
                client.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
                client.read_to_end(&mut heard).await.unwrap();
            }
            heard
        });
        for mode in ["prefer", "disable"] {
            let url = format!("postgres://anna:hunter2@127.0.0.1:{port}/shop?sslmode={mode}");
            let mut address = address(&url).unwrap();
            // As if it were another machine.
            address.watched = true;
            let error = address.connect().await.err().unwrap();
            assert!(!passes(&error));
            let reason = reason(&error);
            assert!(reason.contains("nothing was sent"), "{reason}");
        }
        let heard = serving.await.unwrap();
        assert!(!heard.windows(7).any(|seen| seen == b"hunter2"));
    }
}
