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
        let extensions = options
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("extension_")?, value)));
        let extensions: Vec<String> = extensions.map(|(k, v)| format!("{k}={v}")).collect();
        if !extensions.is_empty() {
            out.push(("sasl.oauthbearer.extensions", extensions.join(",")));
        }
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
