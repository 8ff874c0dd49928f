use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Security, Token, TokenError, TokenProvider};
use super::security;

/// Why the settings are left to librdkafka.
fn unsupported(settings: &[(&str, &str)]) -> String {
    match security(settings) {
        Ok(Err(reason)) => reason,
        other => panic!("{settings:?}: {other:?}"),
    }
}

/// Why the settings are wrong for any client.
fn wrong(settings: &[(&str, &str)]) -> String {
    match security(settings) {
        Err(error) => error.to_string(),
        other => panic!("{settings:?}: {other:?}"),
    }
}

fn supported(settings: &[(&str, &str)]) -> Security {
    match security(settings) {
        Ok(Ok(security)) => security,
        other => panic!("{settings:?}: {other:?}"),
    }
}

const SASL: (&str, &str) = ("security.protocol", "sasl_plaintext");
const USER: (&str, &str) = ("sasl.username", "alice");
const PASSWORD: (&str, &str) = ("sasl.password", "s3cret");

fn mechanism(name: &str) -> (&str, &str) {
    ("sasl.mechanism", name)
}

#[test]
fn logins_that_are_supported() {
    supported(&[]);
    supported(&[("security.protocol", "plaintext")]);
    // Without a login, this does not matter.
    supported(&[mechanism("GSSAPI"), ("ssl.cipher.suites", "x")]);
    for name in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "plain"] {
        let shown = format!("{:?}", supported(&[SASL, mechanism(name), USER, PASSWORD]));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains(&name.to_uppercase()), "{shown}");
    }
    supported(&[
        SASL,
        mechanism("OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=alice"),
    ]);
}

#[test]
fn logins_that_librdkafka_is_needed_for() {
    for (settings, reason) in [
        (vec![SASL], "'sasl.mechanism' = 'GSSAPI'"),
        (
            vec![SASL, mechanism("GSSAPI")],
            "'sasl.mechanism' = 'GSSAPI'",
        ),
        (vec![SASL, mechanism("OTHER")], "'sasl.mechanism' = 'OTHER'"),
        (
            vec![
                SASL,
                mechanism("OAUTHBEARER"),
                ("sasl.oauthbearer.method", "oidc"),
                (
                    "sasl.oauthbearer.grant.type",
                    "urn:ietf:params:oauth:grant-type:jwt-bearer",
                ),
            ],
            "'sasl.oauthbearer.grant.type' = 'urn:ietf:params:oauth:grant-type:jwt-bearer'",
        ),
        (
            vec![
                SASL,
                mechanism("OAUTHBEARER"),
                (
                    "sasl.oauthbearer.metadata.authentication.type",
                    "azure_imds",
                ),
            ],
            "'sasl.oauthbearer.metadata.authentication.type' = 'azure_imds'",
        ),
    ] {
        assert_eq!(unsupported(&settings), reason);
    }
}

#[test]
fn logins_without_what_they_need() {
    for (settings, reason) in [
        (
            vec![SASL, mechanism("PLAIN"), PASSWORD],
            "setting 'sasl.username': is not set, and 'sasl.mechanism' = 'PLAIN' needs it",
        ),
        (
            vec![SASL, mechanism("SCRAM-SHA-512"), USER],
            "setting 'sasl.password': is not set, and 'sasl.mechanism' = 'SCRAM-SHA-512' needs it",
        ),
        (
            vec![SASL, mechanism("OAUTHBEARER")],
            "setting 'sasl.mechanism': 'OAUTHBEARER' needs tokens: from a token endpoint \
             ('sasl.oauthbearer.method' = 'oidc' and 'sasl.oauthbearer.token.endpoint.url'), from a \
             TokenProvider in Rust programs, or for tests 'enable.sasl.oauthbearer.unsecure.jwt' = 'true'",
        ),
        (
            vec![
                SASL,
                mechanism("OAUTHBEARER"),
                ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ],
            "setting 'sasl.oauthbearer.config': needs 'principal=NAME' for unsecured tokens",
        ),
    ] {
        assert_eq!(wrong(&settings), reason);
    }
}

#[cfg(feature = "oidc")]
#[test]
fn token_endpoints_that_cannot_be_asked() {
    const URL: (&str, &str) = ("sasl.oauthbearer.token.endpoint.url", "https://idp/token");
    const ID: (&str, &str) = ("sasl.oauthbearer.client.id", "reader");
    const SECRET: (&str, &str) = ("sasl.oauthbearer.client.secret", "s3cret");
    let url = |url| ("sasl.oauthbearer.token.endpoint.url", url);
    let extensions = |list| ("sasl.oauthbearer.extensions", list);
    for (settings, key, reason) in [
        (vec![ID, SECRET], URL.0, "is not set, and a token endpoint"),
        (vec![URL, SECRET], ID.0, "is not set, and a token endpoint"),
        (vec![URL, ID], SECRET.0, "is not set, and a token endpoint"),
        (vec![url("idp/token"), ID, SECRET], URL.0, "cannot be read"),
        (
            vec![url("file:///etc/passwd"), ID, SECRET],
            URL.0,
            "begins with neither http:// nor https://",
        ),
        (
            vec![url("https://me:s3cret@idp/token"), ID, SECRET],
            URL.0,
            "has a login, which belongs to 'sasl.oauthbearer.client.id'",
        ),
        (
            vec![URL, ID, SECRET, ("https.ca.location", "/does/not/exist")],
            "https.ca.location",
            "cannot read '/does/not/exist'",
        ),
        (
            vec![URL, ID, SECRET, extensions("a")],
            "sasl.oauthbearer.extensions",
            "expected 'name=value,name=value'",
        ),
        (
            vec![URL, ID, SECRET, extensions("a=b,auth=c")],
            "sasl.oauthbearer.extensions",
            "'auth' is taken",
        ),
    ] {
        let oidc = ("sasl.oauthbearer.method", "oidc");
        let all = [vec![SASL, mechanism("OAUTHBEARER"), oidc], settings].concat();
        let error = wrong(&all);
        assert!(error.starts_with(&format!("setting '{key}': ")), "{error}");
        assert!(
            error.contains(reason) && !error.contains("s3cret"),
            "{error}"
        );
    }
    // Java's settings name the endpoint only.
    let plain = url("http://idp/token");
    let java = security(&[SASL, mechanism("OAUTHBEARER"), plain, ID, SECRET]);
    let shown = format!("{:?}", java.unwrap().unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[derive(Debug)]
struct Fixed;

#[async_trait::async_trait]
impl TokenProvider for Fixed {
    async fn token(&self) -> Result<Token, TokenError> {
        Ok(Token::lasting("s3cret", Duration::from_secs(60)))
    }
}

#[test]
fn tokens_from_a_provider_need_a_login_that_takes_them() {
    let with_tokens = |settings: &[(&str, &str)]| {
        let pairs = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Security::new(
            &pairs.collect::<BTreeMap<_, _>>(),
            Some(Arc::new(Fixed)),
            super::TIMEOUT,
        )
    };
    for settings in [
        vec![SASL, mechanism("OAUTHBEARER")],
        // A provider takes precedence over settings about tokens.
        vec![
            SASL,
            mechanism("OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
        ],
    ] {
        let shown = format!("{:?}", with_tokens(&settings).unwrap().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    for settings in [
        vec![],
        vec![mechanism("OAUTHBEARER")],
        vec![SASL, mechanism("PLAIN")],
    ] {
        let error = with_tokens(&settings).unwrap_err().to_string();
        assert!(
            error.contains("set 'sasl.mechanism' = 'OAUTHBEARER'"),
            "{error}"
        );
    }
}

#[cfg(not(feature = "ssl"))]
#[test]
fn tls_is_left_to_librdkafka_in_builds_without_it() {
    let reason = unsupported(&[("security.protocol", "ssl")]);
    assert!(reason.contains("feature 'ssl'"), "{reason}");
}

#[cfg(feature = "ssl")]
mod tls {
    use super::super::made::{Authority, Folder, own};
    use super::*;

    const TLS: (&str, &str) = ("security.protocol", "ssl");

    #[test]
    fn settings_of_openssl_are_left_to_librdkafka() {
        for (key, value) in [
            ("ssl.cipher.suites", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("ssl.curves.list", "P-256"),
            ("ssl.sigalgs.list", "RSA+SHA256"),
            ("ssl.crl.location", "/crl.pem"),
            ("ssl.engine.location", "/engine.so"),
            ("ssl.providers", "default,legacy"),
        ] {
            assert_eq!(unsupported(&[TLS, (key, value)]), format!("'{key}'"));
        }
    }

    #[test]
    fn authorities_of_files_folders_and_settings() {
        let folder = Folder::new();
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        let both = folder.file("both.pem", format!("{}\n{}", one.pem, two.pem));
        folder.file("README", "not a certificate");
        for (key, value) in [
            ("ssl.ca.location", both.as_str()),
            ("ssl.ca.location", folder.path()),
            ("ssl.ca.pem", one.pem.as_str()),
        ] {
            supported(&[TLS, (key, value)]);
        }
        let empty = Folder::new();
        let text = empty.file("text", "no PEM");
        let cut = empty.file("cut.pem", &one.pem[..200]);
        for (path, reason) in [
            ("/no/such/file", "cannot read '/no/such/file'"),
            (text.as_str(), "holds no certificate; expected PEM"),
            (cut.as_str(), "damaged"),
            (empty.path(), "no file of the folder"),
        ] {
            let error = wrong(&[TLS, ("ssl.ca.location", path)]);
            assert!(error.starts_with("setting 'ssl.ca.location': "), "{error}");
            assert!(error.contains(reason), "{path}: {error}");
        }
    }

    /// Settings with their own authority, so that the system's are not needed.
    fn with_identity<'a>(ca: &'a str, identity: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut settings = vec![TLS, ("ssl.ca.pem", ca)];
        settings.extend(identity);
        settings
    }

    #[test]
    fn client_certificates_as_pem() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let leaf = authority.sign(&[]);
        let key = leaf.key.serialize_pem();
        let certificate = folder.file("client.pem", &leaf.pem);
        let key_file = folder.file("client.key", &key);
        let both = folder.file("both.pem", format!("{key}{}{}", leaf.pem, authority.pem));
        for identity in [
            [
                ("ssl.certificate.location", &certificate),
                ("ssl.key.location", &key_file),
            ],
            [
                ("ssl.certificate.location", &both),
                ("ssl.key.location", &both),
            ],
            [("ssl.certificate.pem", &leaf.pem), ("ssl.key.pem", &key)],
        ] {
            let identity = identity.map(|(k, v)| (k, v.as_str()));
            supported(&with_identity(&authority.pem, &identity));
        }
        let other = own(&[], false).key.serialize_pem();
        for (identity, reason) in [
            (
                vec![("ssl.certificate.pem", leaf.pem.as_str())],
                "setting 'ssl.certificate.pem': a certificate needs its key: set \
                 'ssl.key.location' or 'ssl.key.pem'",
            ),
            (
                vec![("ssl.key.location", key_file.as_str())],
                "setting 'ssl.key.location': a key needs its certificate: set \
                 'ssl.certificate.location' or 'ssl.certificate.pem'",
            ),
            (
                vec![
                    ("ssl.certificate.pem", leaf.pem.as_str()),
                    ("ssl.key.pem", other.as_str()),
                ],
                "setting 'ssl.key.pem': the key and the certificate do not belong together",
            ),
            (
                vec![
                    ("ssl.certificate.pem", leaf.pem.as_str()),
                    ("ssl.key.pem", leaf.pem.as_str()),
                ],
                "setting 'ssl.key.pem': holds no key; expected PEM: '-----BEGIN PRIVATE KEY-----'",
            ),
        ] {
            assert_eq!(wrong(&with_identity(&authority.pem, &identity)), reason);
        }
    }

    /// Made by OpenSSL from the same key; the password is `s3cret`.
    const CERTIFICATE: &str = include_str!("data/certificate.pem");
    const PKCS1: &str = include_str!("data/pkcs1.pem");
    const SEC1: &str = include_str!("data/sec1.pem");
    const SEC1_CERTIFICATE: &str = include_str!("data/sec1-certificate.pem");
    const ENCRYPTED: &str = include_str!("data/encrypted.pem");
    const ENCRYPTED_OLD: &str = include_str!("data/encrypted-old.pem");
    const ENCRYPTED_PBES1: &str = include_str!("data/encrypted-pbes1.pem");
    const STORE: &[u8] = include_bytes!("data/store.p12");

    #[test]
    fn keys_as_openssl_writes_them() {
        let with = |certificate, key, password: &'static str| {
            let identity = [
                ("ssl.certificate.pem", certificate),
                ("ssl.key.pem", key),
                ("ssl.key.password", password),
            ];
            with_identity(CERTIFICATE, &identity)
        };
        supported(&with(CERTIFICATE, PKCS1, ""));
        supported(&with(SEC1_CERTIFICATE, SEC1, ""));
        supported(&with(CERTIFICATE, ENCRYPTED, "s3cret"));
        assert_eq!(
            wrong(&with(CERTIFICATE, ENCRYPTED, "wrong")),
            "setting 'ssl.key.password': does not open the key; is it the right password?"
        );
        assert_eq!(
            wrong(&with(CERTIFICATE, ENCRYPTED, "")),
            "setting 'ssl.key.pem': the key is encrypted: set 'ssl.key.password'"
        );
        assert_eq!(
            unsupported(&with(CERTIFICATE, ENCRYPTED_OLD, "s3cret")),
            "'ssl.key.pem': a key encrypted in OpenSSL's old format (openssl pkcs8 -topk8 makes the \
             new one)"
        );
        assert_eq!(
            unsupported(&with(CERTIFICATE, ENCRYPTED_PBES1, "s3cret")),
            "'ssl.key.pem': a key encrypted in a way that is not PBES2 with AES"
        );
    }

    #[test]
    fn client_certificates_as_pkcs12() {
        let folder = Folder::new();
        let made = folder.file("made.p12", own(&[], false).pkcs12("s3cret"));
        let of_openssl = folder.file("openssl.p12", STORE);
        let no_store = folder.file("none.p12", [0x30, 0x82, 1, 2, 3]);
        let with = |path, password| {
            let identity = [
                ("ssl.keystore.location", path),
                ("ssl.keystore.password", password),
            ];
            with_identity(CERTIFICATE, &identity)
        };
        for path in [&made, &of_openssl] {
            supported(&with(path, "s3cret"));
            assert_eq!(
                wrong(&with(path, "wrong")),
                format!(
                    "setting 'ssl.keystore.password': does not open '{path}'; is it the right password?"
                )
            );
        }
        let error = wrong(&with("/no/such.p12", "x"));
        assert!(
            error.contains("'ssl.keystore.location': cannot read '/no/such.p12'"),
            "{error}"
        );
        // librdkafka may support more kinds of stores.
        let reason = unsupported(&with(&no_store, "x"));
        assert!(
            reason.starts_with(&format!("'ssl.keystore.location' = '{no_store}' (")),
            "{reason}"
        );
    }
}
