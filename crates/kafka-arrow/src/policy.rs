//! What the text of a session may do.
//!
//! The text of a statement acts with the authority of the user who runs it: it can read and write their
//! files, reach any host, and use the secrets in their environment. A [restricted](Policy::restricted)
//! [`Policy`] takes that away from text that comes from someone else. It decides whenever a file is opened, a
//! host is named, a secret is looked up, or a setting is changed. Everything that it does not explicitly
//! allow is refused.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::path;

/// The largest file from which a secret is read.
pub(crate) const MAX_SECRET_BYTES: u64 = 1 << 20;
/// The largest file from which schemas or certificates are read.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// What the text of a session may do; see the [module](self)'s documentation.
///
/// Without restrictions, which is the default, the text may do whatever the process may.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Policy {
    /// What a restricted session may use; `None` means everything.
    allowed: Option<Arc<Allowed>>,
    /// Whether `COPY` may not overwrite files.
    keeps_files: bool,
}

#[derive(Debug, Clone, Default)]
struct Allowed {
    /// Files and folders, with links resolved.
    paths: Vec<PathBuf>,
    /// Locations in object stores, each ending with `/`.
    urls: Vec<String>,
    /// Names or addresses of hosts. `None` allows any port.
    hosts: Vec<(String, Option<u16>)>,
}

impl Policy {
    /// A session whose text only reaches the session's own brokers and registry. It may use no other host, no
    /// file, no `env:` or `file:` reference, no `COPY`, and no settings except for tuning.
    pub fn restricted() -> Self {
        Self {
            allowed: Some(Arc::default()),
            keeps_files: true,
        }
    }

    /// Whether the text is restricted.
    pub fn is_restricted(&self) -> bool {
        self.allowed.is_some()
    }

    /// Allows a restricted session to use a file, a folder with its content, or a location in an object store
    /// such as `s3://bucket/folder`. It may read there, and write where a table is written.
    ///
    /// Links are resolved, both in this path and in the paths that are compared with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when this is not a path or URL.
    pub fn allow_path(mut self, path: &str) -> Result<Self> {
        match path::local_path(path)? {
            Some(path) => self.change(|allowed| allowed.paths.push(path)),
            None => {
                let url = Url::parse(path).map_err(|e| Error::invalid(format!("'{path}': {e}")))?;
                self.change(|allowed| allowed.urls.push(folder_url(&url)));
            }
        }
        Ok(self)
    }

    /// Allows a restricted session to use a host, as `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`: a broker, a
    /// registry, a database, or the endpoint of an object store.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it has another form.
    pub fn allow_host(mut self, host: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("'{host}': expected HOST or HOST:PORT"));
        let (name, port) = split_host(host).ok_or_else(wrong)?;
        if name.is_empty() || name.contains(['/', '@', ',']) || name.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let allowed = (name.to_ascii_lowercase(), port);
        self.change(|all| all.hosts.push(allowed));
        Ok(self)
    }

    /// Sets whether `COPY` refuses to overwrite an existing file. Restricted sessions have no `COPY`.
    pub fn keep_files(mut self, keep: bool) -> Self {
        self.keeps_files = keep;
        self
    }

    /// Allows the hosts in a session's own settings.
    pub fn allow_hosts_of(mut self, connection: &ConnectionConfig) -> Self {
        let mut own: Vec<(String, Option<u16>)> = brokers(connection).collect();
        let registry = connection.get("schema.registry.url").unwrap_or_default();
        let urls = registry
            .split(',')
            .filter_map(|url| Url::parse(url.trim()).ok());
        own.extend(urls.filter_map(|url| {
            let host = url.host_str()?.to_ascii_lowercase();
            Some((bare(&host).to_owned(), url.port_or_known_default()))
        }));
        self.change(|allowed| allowed.hosts.extend(own));
        self
    }

    fn change(&mut self, change: impl FnOnce(&mut Allowed)) {
        if let Some(allowed) = &mut self.allowed {
            change(Arc::make_mut(allowed));
        }
    }

    /// Whether `COPY` refuses to overwrite a file.
    pub fn keeps_files(&self) -> bool {
        self.keeps_files
    }

    /// Refuses a host that is not allowed. `what` says in the message what the host belongs to.
    ///
    /// # Errors
    /// [`Error::Invalid`], which says how to allow it.
    pub fn check_host(&self, what: &str, host: &str, port: Option<u16>) -> Result<()> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        let name = host.to_ascii_lowercase();
        let name = bare(&name);
        let fits =
            |(known, any): &(String, Option<u16>)| known == name && (any.is_none() || *any == port);
        if allowed.hosts.iter().any(fits) {
            return Ok(());
        }
        let shown = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Err(refused(&format!(
            "{what} '{shown}' is not among the allowed hosts; the operator of the session can allow it with \
             --allow-host {shown}"
        )))
    }

    /// Refuses brokers that are not allowed.
    ///
    /// # Errors
    /// As [`check_host`](Self::check_host).
    pub fn check_brokers(&self, connection: &ConnectionConfig) -> Result<()> {
        brokers(connection).try_for_each(|(host, port)| self.check_host("the broker", &host, port))
    }

    /// Refuses the hosts in a list of URLs unless they are allowed.
    ///
    /// # Errors
    /// As [`check_host`](Self::check_host), and when a URL has no host.
    pub fn check_urls(&self, what: &str, list: &str) -> Result<()> {
        if !self.is_restricted() {
            return Ok(());
        }
        list.split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .try_for_each(|url| {
                let url = Url::parse(url).ok();
                match url
                    .as_ref()
                    .and_then(|url| Some((url.host_str()?, url.port_or_known_default())))
                {
                    Some((host, port)) => self.check_host(what, host, port),
                    None => Err(refused(&format!("{what} has no host"))),
                }
            })
    }

    /// Refuses a file or folder that is not allowed.
    ///
    /// # Errors
    /// [`Error::Invalid`], which says how to allow it.
    pub fn check_path(&self, what: &str, path: &Path) -> Result<()> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        let known = std::path::absolute(path).map(|path| path::one_name(&path));
        let is_in = known.is_ok_and(|known| {
            // The part of a path that does not exist yet may still contain dots.
            let climbs = known.components().any(|part| part == Component::ParentDir);
            // A dangling link cannot be resolved, but writing would follow it.
            let is_link = |part: &Path| part.symlink_metadata().is_ok_and(|m| m.is_symlink());
            let dangles = known.ancestors().any(is_link);
            !climbs
                && !dangles
                && allowed
                    .paths
                    .iter()
                    .any(|allowed| known.starts_with(allowed))
        });
        if is_in {
            return Ok(());
        }
        let shown = path.display();
        Err(refused(&format!(
            "{what} '{shown}' is not among the allowed files; the operator of the session can allow it with \
             --allow-path {shown}"
        )))
    }

    /// Refuses a path or URL that is not allowed. `what` says in the message what it belongs to.
    ///
    /// # Errors
    /// [`Error::Invalid`], which says how to allow it.
    pub fn check_location(&self, what: &str, location: &str) -> Result<()> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        if let Some(path) = path::local_path(location)? {
            return self.check_path(what, &path);
        }
        let url = Url::parse(location).map_err(|e| Error::invalid(format!("'{location}': {e}")))?;
        let url = folder_url(&url);
        if allowed.urls.iter().any(|allowed| url.starts_with(allowed)) {
            return Ok(());
        }
        let shown = url.trim_end_matches('/');
        Err(refused(&format!(
            "{what} '{shown}' is not among the allowed locations; the operator of the session can allow it with \
             --allow-path {shown}"
        )))
    }

    /// Refuses options for an object store that name hosts, files or credentials.
    ///
    /// # Errors
    /// [`Error::Config`], which leaves out the value.
    pub fn check_store_options(&self, options: &HashMap<String, String>) -> Result<()> {
        const OPEN: [&str; 4] = [
            "aws_region",
            "aws_default_region",
            "aws_request_payer",
            "aws_virtual_hosted_style_request",
        ];
        let open =
            |name: &str| OPEN.contains(&name.replace('.', "_").to_ascii_lowercase().as_str());
        match options
            .keys()
            .find(|name| self.is_restricted() && !open(name))
        {
            None => Ok(()),
            Some(name) => Err(Error::config(
                name,
                "an object store is reached with the operator's own settings in a restricted session",
            )),
        }
    }

    /// Refuses `env:NAME` and `file:PATH`.
    ///
    /// # Errors
    /// [`Error::Config`], which leaves out the reference.
    pub(crate) fn check_reference(&self, key: &str, value: &str) -> Result<()> {
        if self.is_restricted() && (value.starts_with("env:") || value.starts_with("file:")) {
            return Err(Error::config(
                key,
                "a restricted session may not look up env:NAME or file:PATH",
            ));
        }
        Ok(())
    }

    /// Reads a file that text names, if it has at most `most` bytes.
    ///
    /// # Errors
    /// The system's error; its kind is `PermissionDenied` when the file is not allowed.
    pub fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let allowed = self.check_path("the file", path);
        allowed.map_err(|e| io::Error::new(io::ErrorKind::PermissionDenied, e.to_string()))?;
        read_bounded(path, most)
    }
}

/// Reads a file with at most `most` bytes. The limit matters because a device may have no end.
///
/// # Errors
/// The system's error; its kind is `FileTooLarge` when the file is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let read = std::fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {most} bytes"),
        ));
    }
    Ok(bytes)
}

/// The same for a file that contains text.
///
/// # Errors
/// As [`read_bounded`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The error for something that a restricted session may not do.
pub fn refused(what: &str) -> Error {
    Error::invalid(format!("restricted session: {what}"))
}

/// The brokers in the settings, with Kafka's default port.
fn brokers(connection: &ConnectionConfig) -> impl Iterator<Item = (String, Option<u16>)> {
    const PORT: u16 = 9092;
    let list = connection.bootstrap_servers().split(',').map(str::trim);
    list.filter(|broker| !broker.is_empty()).map(|broker| {
        // librdkafka accepts a protocol in front.
        let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
        // Text that clients might split in different ways is not a host, so that it never matches an allowed
        // one.
        if broker.contains(['/', '\\', '@']) || broker.contains(char::is_whitespace) {
            return (broker.to_ascii_lowercase(), None);
        }
        match split_host(broker) {
            Some((host, port)) => (host.to_ascii_lowercase(), port.or(Some(PORT))),
            None => (broker.to_ascii_lowercase(), None),
        }
    })
}

/// A host and its port. An IPv6 address with a port has brackets.
fn split_host(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port.parse().ok()?))),
        _ => Some((text, None)),
    }
}

/// An address without brackets.
fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// A location without login and query, ending with `/`.
fn folder_url(url: &Url) -> String {
    // The parser has resolved the dots in the path.
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let path = url.path().trim_end_matches('/');
    format!("{}://{host}{path}/", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_ports() {
        for (text, expected) in [
            ("a", Some(("a", None))),
            ("a:1", Some(("a", Some(1)))),
            ("::1", Some(("::1", None))),
            ("[::1]", Some(("::1", None))),
            ("[::1]:9", Some(("::1", Some(9)))),
            ("a:x", None),
            ("[::1", None),
            ("[::1]9", None),
        ] {
            assert_eq!(split_host(text), expected, "{text}");
        }
        for wrong in ["", "a b", "http://a", "a,b", "u@a"] {
            assert!(Policy::restricted().allow_host(wrong).is_err(), "{wrong}");
        }
        let policy = Policy::restricted().allow_host("A.Example").unwrap();
        let policy = policy.allow_host("[::1]:9").unwrap();
        assert!(policy.check_host("", "a.example", Some(7)).is_ok());
        assert!(policy.check_host("", "::1", Some(9)).is_ok());
        assert!(policy.check_host("", "::1", Some(8)).is_err());
        assert!(Policy::default().check_host("", "anything", None).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_an_end_is_not_read() {
        let error = read_bounded(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1000 bytes");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 10]).unwrap();
        assert_eq!(read_bounded(file.path(), 10).unwrap().len(), 10);
        assert!(read_bounded(file.path(), 9).is_err());
    }
}
