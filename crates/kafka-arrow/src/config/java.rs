//! Translates the Java client's security settings into librdkafka's.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Translates `sasl.jaas.config` into librdkafka's settings.
pub(super) fn jaas(key: &str, value: &str) -> Result<Vec<(&'static str, String)>> {
    let mut words = words(value);
    if words.is_empty() {
        return Err(Error::config(key, "is empty"));
    }
    let module = words.remove(0);
    let class = module.rsplit('.').next().unwrap_or_default().to_owned();
    // The control flag: required, sufficient, …
    if words.first().is_some_and(|w| !w.contains('=')) {
        words.remove(0);
    }
    let options: BTreeMap<String, String> = words
        .iter()
        .filter_map(|w| w.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let option = |name: &str| {
        options.get(name).cloned().ok_or_else(|| {
            Error::config(
                key,
                format!("{class} needs the option '{name}=\"…\"', which is missing"),
            )
        })
    };
    match class.as_str() {
        "PlainLoginModule" | "ScramLoginModule" => Ok(vec![
            ("sasl.username", option("username")?),
            ("sasl.password", option("password")?),
        ]),
        "OAuthBearerLoginModule" => Ok(oauth(&options)),
        "Krb5LoginModule" => {
            let mut out = Vec::new();
            let pairs = [
                ("keyTab", "sasl.kerberos.keytab"),
                ("principal", "sasl.kerberos.principal"),
                ("serviceName", "sasl.kerberos.service.name"),
            ];
            for (java, name) in pairs {
                out.extend(options.get(java).map(|v| (name, v.clone())));
            }
            Ok(out)
        }
        _ => {
            // A word that is not a module may be a secret.
            let named = match class.ends_with("LoginModule") {
                true => format!("the login module '{class}' is not known"),
                false => "it does not begin with a login module".to_owned(),
            };
            Err(Error::config(
                key,
                format!(
                    "{named}; use PlainLoginModule, ScramLoginModule, OAuthBearerLoginModule or \
                     Krb5LoginModule, as in '…PlainLoginModule required username=\"…\" password=\"…\";'"
                ),
            ))
        }
    }
}

fn oauth(options: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(id) = options.get("clientId") {
        out.push(("sasl.oauthbearer.method", "oidc".to_owned()));
        out.push(("sasl.oauthbearer.client.id", id.clone()));
        out.extend(
            options
                .get("clientSecret")
                .map(|v| ("sasl.oauthbearer.client.secret", v.clone())),
        );
        out.extend(
            options
                .get("scope")
                .map(|v| ("sasl.oauthbearer.scope", v.clone())),
        );
        return out;
    }
    // For unsecured tokens, in tests: the claims become librdkafka's configuration line.
    let mut config = Vec::new();
    for (name, value) in options {
        if let Some(claim) = name.strip_prefix("unsecuredLoginStringClaim_") {
            let claim = if claim == "sub" { "principal" } else { claim };
            config.push(format!("{claim}={value}"));
        } else if name == "unsecuredLoginLifetimeSeconds" {
            config.push(format!("lifeSeconds={value}"));
        }
    }
    if !config.is_empty() {
        out.push(("sasl.oauthbearer.config", config.join(" ")));
        out.push(("enable.sasl.oauthbearer.unsecure.jwt", "true".to_owned()));
    }
    out
}

/// Splits a JAAS line into words. Blanks separate, quotes (with `\` escapes) group, `;` ends the line.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) if c == '\\' => word.extend(chars.next()),
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ';' => break,
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            None => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The content of a store file.
#[derive(PartialEq, Eq)]
enum Store {
    Pem,
    Pkcs12,
    Jks,
}

/// Translates Java's settings for key and trust stores, which only make sense together.
///
/// The file's content decides its type; `ssl.*.type` only counts if the file cannot be read.
pub(super) fn stores(java: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut put = |key: &str, value: &str| out.insert(key.to_owned(), value.to_owned());
    let get = |key: &str| java.get(key).map(String::as_str);

    if let Some(pem) = get("ssl.truststore.certificates") {
        put("ssl.ca.pem", pem);
    }
    if let Some(path) = get("ssl.truststore.location") {
        let key = "ssl.truststore.location";
        match kind(path, get("ssl.truststore.type")) {
            Store::Pem => put("ssl.ca.location", path),
            Store::Jks => return Err(jks(key, path)),
            Store::Pkcs12 => {
                return Err(Error::config(
                    key,
                    format!(
                        "'{path}' is PKCS12; trusted certificates must be PEM: \
                         openssl pkcs12 -in {path} -nokeys -out ca.pem, then 'ssl.ca.location'"
                    ),
                ));
            }
        };
    }
    if let Some(pem) = get("ssl.keystore.key") {
        put("ssl.key.pem", pem);
    }
    if let Some(pem) = get("ssl.keystore.certificate.chain") {
        put("ssl.certificate.pem", pem);
    }
    if let Some(path) = get("ssl.keystore.location") {
        match kind(path, get("ssl.keystore.type")) {
            Store::Pem => {
                // One file with both the key and the chain.
                put("ssl.key.location", path);
                put("ssl.certificate.location", path);
            }
            Store::Pkcs12 => {
                put("ssl.keystore.location", path);
                if let Some(password) = get("ssl.keystore.password") {
                    put("ssl.keystore.password", password);
                }
            }
            Store::Jks => return Err(jks("ssl.keystore.location", path)),
        }
    }
    const KNOWN: [&str; 9] = [
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
    ];
    if let Some(unknown) = java.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        let nearest = crate::error::nearest_names(unknown, KNOWN);
        return Err(Error::config(
            unknown,
            format!(
                "there is no such setting; did you mean {}?",
                nearest.join(", ")
            ),
        ));
    }
    Ok(out)
}

fn kind(path: &str, declared: Option<&str>) -> Store {
    use std::io::Read;
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    match (read, head) {
        (Ok(()), [0xfe, 0xed, 0xfe, 0xed]) => Store::Jks,
        // The beginning of a DER sequence.
        (Ok(()), [0x30, ..]) => Store::Pkcs12,
        (Ok(()), _) => Store::Pem,
        (Err(_), _) => match declared.map(str::to_ascii_uppercase).as_deref() {
            Some("PEM") => Store::Pem,
            Some("PKCS12") => Store::Pkcs12,
            None if path.ends_with(".pem") || path.ends_with(".crt") => Store::Pem,
            None if path.ends_with(".p12") || path.ends_with(".pfx") => Store::Pkcs12,
            _ => Store::Jks,
        },
    }
}

fn jks(key: &str, path: &str) -> Error {
    Error::config(
        key,
        format!(
            "'{path}' is a JKS store (or cannot be read), which only Java understands; convert it: \
             keytool -importkeystore -srckeystore {path} -destkeystore store.p12 -deststoretype PKCS12 \
             for a key, keytool -exportcert -rfc for trusted certificates (PEM)"
        ),
    )
}
