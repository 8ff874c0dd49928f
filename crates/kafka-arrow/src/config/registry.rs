//! How to reach a schema registry: the options of a table, in Confluent's names.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::error::{Error, Result, nearest_names};

/// The prefix of all these options.
const PREFIX: &str = "schema.registry.";

const URL: &str = "schema.registry.url";
const USER_INFO: &str = "schema.registry.basic.auth.user.info";
const TOKEN: &str = "schema.registry.bearer.auth.token";
pub(crate) const CA_LOCATION: &str = "schema.registry.ssl.ca.location";
const TIMEOUT: &str = "schema.registry.request.timeout.ms";

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(10_000);

/// Where a registry is, and how to log in. Secrets are not printed.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// At least one endpoint. The first is tried first.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) login: Option<Login>,
    /// A PEM file, or a folder of PEM files, with the trusted authorities; the system's by default.
    pub(crate) ca_location: Option<String>,
    /// The time limit for a request with all its retries.
    pub(crate) timeout: Duration,
}

/// One URL of a registry.
#[derive(Clone, PartialEq)]
pub(crate) struct Endpoint {
    /// May contain a user and a password.
    pub(crate) url: Url,
    /// The URL without user and password.
    pub(crate) shown: String,
}

/// The login, unless the URL has one.
#[derive(Clone, PartialEq)]
pub(crate) enum Login {
    /// User and password, joined by a colon.
    Basic(String),
    Bearer(String),
}

impl RegistryConfig {
    /// All options of registries.
    pub(crate) const KEYS: [&str; 5] = [URL, USER_INFO, TOKEN, CA_LOCATION, TIMEOUT];

    /// The options that decide which server receives the login, and how it is verified.
    pub(crate) const WHOM: [&str; 2] = [URL, CA_LOCATION];

    /// Whether an option belongs to registries, by its name.
    pub(crate) fn owns(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Checks one option in isolation.
    ///
    /// # Errors
    /// When it is unknown, or its value is not usable.
    pub(crate) fn check(name: &str, value: &str) -> Result<()> {
        match name {
            URL => urls(value, false).map(drop),
            USER_INFO => login(Some(value), None).map(drop),
            TOKEN | CA_LOCATION => Ok(()),
            TIMEOUT => milliseconds(value).map(drop),
            unknown => Err(not_known(unknown)),
        }
    }

    /// Reads the options that belong to a registry; `None` when there are none.
    ///
    /// # Errors
    /// When one is unknown or not usable, or the URL is missing.
    pub fn from_options<'a>(
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>> {
        let (mut url, mut user_info, mut token) = (None, None, None);
        let (mut ca_location, mut timeout) = (None, DEFAULT_TIMEOUT);
        let mut any = false;
        let ours = options.into_iter().filter(|(name, _)| Self::owns(name));
        for (name, value) in ours {
            any = true;
            match name {
                URL => url = Some(value),
                USER_INFO => user_info = Some(value),
                TOKEN => token = Some(value),
                CA_LOCATION => ca_location = Some(value.to_owned()),
                TIMEOUT => timeout = milliseconds(value)?,
                unknown => return Err(not_known(unknown)),
            }
        }
        if !any {
            return Ok(None);
        }
        let login = login(user_info, token)?;
        Ok(Some(Self {
            endpoints: urls(url.unwrap_or_default(), login.is_some())?,
            login,
            ca_location,
            timeout,
        }))
    }
}

impl Endpoint {
    fn new(text: &str, has_login: bool) -> Result<Self> {
        // The text may contain a password, so messages never show it.
        let wrong = |what: &str| {
            Error::config(
                URL,
                format!("{what}; expected URLs such as http://registry:8081, separated by commas"),
            )
        };
        let url = Url::parse(text).map_err(|e| wrong(&format!("a URL cannot be read: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("a URL begins with neither http:// nor https://"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("a URL has a part after '?' or '#'"));
        }
        let bare = without_login(&url).ok_or_else(|| wrong("a URL cannot be read"))?;
        Ok(Self {
            shown: bare.as_str().trim_end_matches('/').to_owned(),
            url: if has_login { bare } else { url },
        })
    }
}

fn urls(list: &str, has_login: bool) -> Result<Vec<Endpoint>> {
    let texts = list.split(',').map(str::trim);
    let endpoints: Vec<_> = texts
        .filter(|text| !text.is_empty())
        .map(|text| Endpoint::new(text, has_login))
        .collect::<Result<_>>()?;
    if endpoints.is_empty() {
        return Err(Error::config(
            URL,
            "is missing; write the registry's URL, for example http://registry:8081",
        ));
    }
    Ok(endpoints)
}

fn without_login(url: &Url) -> Option<Url> {
    let mut bare = url.clone();
    bare.set_username("").ok()?;
    bare.set_password(None).ok()?;
    Some(bare)
}

fn login(user_info: Option<&str>, token: Option<&str>) -> Result<Option<Login>> {
    match (user_info, token) {
        (Some(_), Some(_)) => Err(Error::config(
            TOKEN,
            format!("a registry takes one login: leave this or '{USER_INFO}' out"),
        )),
        (Some(user_info), None) if user_info.contains(':') => {
            Ok(Some(Login::Basic(user_info.to_owned())))
        }
        (Some(_), None) => Err(Error::config(
            USER_INFO,
            "expected a user and a password with ':' between them",
        )),
        (None, token) => Ok(token.map(|token| Login::Bearer(token.to_owned()))),
    }
}

fn milliseconds(value: &str) -> Result<Duration> {
    match value.parse() {
        Ok(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds)),
        _ => Err(Error::config(
            TIMEOUT,
            format!("'{value}' is not a number of milliseconds above 0"),
        )),
    }
}

fn not_known(name: &str) -> Error {
    /// For tables that are written to.
    const AUTO_REGISTER: &str = "schema.registry.auto.register";
    let known = RegistryConfig::KEYS;
    if name == AUTO_REGISTER {
        return Error::config(name, "belongs to the options of a table that is written");
    }
    let nearest = nearest_names(name, known.into_iter().chain([AUTO_REGISTER]));
    let hint = match nearest.first() {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("the options are {}", known.join(", ")),
    };
    Error::config(
        name,
        format!("is not an option of a schema registry; {hint}"),
    )
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic(_) => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}
