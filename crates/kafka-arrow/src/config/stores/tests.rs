//! Stores that keytool has made, with the passwords `store password` and, of the key, `key password`.

use std::collections::BTreeMap;

use super::jks::{self, Closed};
use super::stores;

const JKS: &[u8] = include_bytes!("store.jks");
const PKCS12: &[u8] = include_bytes!("trust.p12");
const PASSWORD: &str = "store password";
const KEY_PASSWORD: &str = "key password";

fn file(content: &[u8]) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().display().to_string();
    (file, path)
}

fn translated(
    settings: &[(&str, &str)],
    key_password: Option<&str>,
) -> Result<BTreeMap<String, String>, String> {
    let pairs = settings
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    stores(&pairs.collect(), key_password).map_err(|e| e.to_string())
}

#[test]
fn trust_stores_of_java_become_pem() {
    let mut all = Vec::new();
    for content in [JKS, PKCS12] {
        let (_file, path) = file(content);
        let settings = [
            ("ssl.truststore.location", path.as_str()),
            ("ssl.truststore.password", PASSWORD),
        ];
        let found = translated(&settings, None).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["ssl.ca.pem"]);
        let chain = crate::trust::chain("", "", found["ssl.ca.pem"].as_bytes());
        all.push(chain.unwrap());
        let settings = [settings[0], ("ssl.truststore.password", "wrong")];
        let refused = translated(&settings, None).unwrap_err();
        assert_eq!(
            refused,
            format!(
                "setting 'ssl.truststore.password': does not open '{path}'; is it the right password?"
            )
        );
    }
    assert_eq!(all[0].len(), 1);
    assert_eq!(all[0], all[1]);
    // As in Java, the password only protects a JKS store's certificates against changes.
    let (_file, path) = file(JKS);
    let found = translated(&[("ssl.truststore.location", &path)], None);
    assert!(found.is_ok(), "{found:?}");
}

#[test]
fn a_key_of_java_becomes_pem() {
    let (_file, path) = file(JKS);
    let settings = [
        ("ssl.keystore.location", path.as_str()),
        ("ssl.keystore.password", PASSWORD),
    ];
    let found = translated(&settings, Some(KEY_PASSWORD)).unwrap();
    let chain = crate::trust::chain("", "", found["ssl.certificate.pem"].as_bytes());
    assert_eq!(chain.unwrap().len(), 1);
    // keytool leaves the public half of an EC key out; the client takes it from the certificate.
    let mut config = crate::config::ConnectionConfig::new("localhost:1");
    for (key, value) in settings.into_iter().chain([
        ("ssl.key.password", KEY_PASSWORD),
        ("security.protocol", "ssl"),
        ("ssl.truststore.location", path.as_str()),
        ("kafka.client", "wire"),
    ]) {
        config.set(key, value).unwrap();
    }
    crate::client::WireClient::connect(&config).unwrap();

    let wrong = translated(&settings, None).unwrap_err();
    assert!(
        wrong.ends_with("the password does not open the key"),
        "{wrong}"
    );
    let missing = translated(&settings[..1], None).unwrap_err();
    assert!(
        missing.starts_with("setting 'ssl.keystore.password': is not set"),
        "{missing}"
    );
    let (_file, path) = file(PKCS12);
    let other = [
        ("ssl.truststore.location", path.as_str()),
        ("ssl.truststore.password", PASSWORD),
        ("ssl.keystore.location", "/does/not/exist.jks"),
        ("ssl.keystore.password", PASSWORD),
    ];
    let absent = translated(&other, None).unwrap_err();
    assert!(
        absent.contains("cannot read '/does/not/exist.jks'"),
        "{absent}"
    );
}

#[test]
fn no_change_of_a_byte_goes_unnoticed() {
    assert!(jks::open(JKS, Some(PASSWORD)).is_ok());
    for length in 0..JKS.len() {
        assert!(
            jks::open(&JKS[..length], Some(PASSWORD)).is_err(),
            "{length}"
        );
    }
    for place in 0..JKS.len() {
        for flipped in [1, 0x80, 0xff] {
            let mut changed = JKS.to_vec();
            changed[place] ^= flipped;
            assert!(jks::open(&changed, Some(PASSWORD)).is_err(), "{place}");
            // Without a password some changes pass, but nothing panics.
            if let Ok(store) = jks::open(&changed, None) {
                for (key, _) in store.keys {
                    let _ = jks::decrypted(key, KEY_PASSWORD);
                }
            }
        }
    }
    assert_eq!(jks::open(&[0xce; 99], None).unwrap_err(), Closed::Jceks);
    assert_eq!(jks::open(b"", None).unwrap_err(), Closed::Damaged);
}

#[test]
fn the_content_decides_the_type() {
    let (_pem, pem) = file(b"-----BEGIN CERTIFICATE-----\n");
    let (_pkcs12, pkcs12) = file(&[0x30, 0x82, 1, 2, 3]);
    let settings = [
        ("ssl.truststore.location", pem.as_str()),
        ("ssl.truststore.type", "JKS"),
        ("ssl.keystore.location", &pkcs12),
        ("ssl.keystore.password", "pw"),
        ("ssl.keystore.type", "PEM"),
    ];
    let found = translated(&settings, None).unwrap();
    let expected = [
        ("ssl.ca.location", pem.as_str()),
        ("ssl.keystore.location", &pkcs12),
        ("ssl.keystore.password", "pw"),
    ];
    assert_eq!(
        found,
        expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );

    let found = translated(&[("ssl.keystore.location", &pem)], None).unwrap();
    assert_eq!(found["ssl.key.location"], pem);
    assert_eq!(found["ssl.certificate.location"], pem);

    let (_jks, jks) = file(&[0xfe, 0xed, 0xfe, 0xed, 0]);
    let error = translated(&[("ssl.truststore.location", &jks)], None).unwrap_err();
    assert!(error.contains("keytool -list"), "{error}");
    let error = translated(&[("ssl.truststore.location", &pkcs12)], None).unwrap_err();
    assert!(error.contains("cannot be read as PKCS12"), "{error}");
    let error = translated(&[("ssl.keystore.kind", "PEM")], None).unwrap_err();
    assert!(error.contains("did you mean"), "{error}");
}
