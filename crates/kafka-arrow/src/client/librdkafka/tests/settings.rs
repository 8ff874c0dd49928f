//! Compares this crate's checks of settings with librdkafka's own.

use crate::client::librdkafka::ffi::{Conf, SettingError};
use crate::config::known::{Kind, SETTINGS, normal};
use crate::config::{ConnectionConfig, is_secret};

/// What librdkafka says about a value; `None` where its build lacks the feature of the setting.
fn takes(name: &str, value: &str) -> Option<bool> {
    match Conf::new().set(name, value) {
        Ok(()) => Some(true),
        Err(SettingError::Invalid(reason)) if reason.contains("not supported in this build") => {
            None
        }
        Err(SettingError::Invalid(reason)) if reason.starts_with("Unsupported value") => None,
        Err(SettingError::Invalid(_)) => Some(false),
        Err(SettingError::Unknown) => panic!("librdkafka does not know '{name}'"),
    }
}

/// Values around the limits of a setting.
fn samples(kind: Kind) -> Vec<String> {
    let around = |least: i32, most: i32| {
        let (least, most) = (i64::from(least), i64::from(most));
        // librdkafka truncates numbers to 32 bits.
        let all = [least - 1, least, least + 1, most - 1, most, most + 1].into_iter();
        all.filter(|number| i32::try_from(*number).is_ok())
    };
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut samples: Vec<String> = match kind {
        Kind::Text => return text(&["x"]),
        Kind::Bool => text(&["true", "false", "1", "0", "T", "f", "2"]),
        Kind::Int(least, most) => around(least, most).map(|n| n.to_string()).collect(),
        Kind::IntOr(least, most, words) => {
            let numbers = around(least, most).map(|n| n.to_string());
            numbers.chain(words.iter().map(|w| (*w).into())).collect()
        }
        Kind::Decimal(least, most) => [least - 0.1, least, 0.5, most, most + 1.0]
            .map(|number| number.to_string())
            .into(),
        Kind::Word(words) => text(words),
        Kind::Words(words) => {
            let mut samples: Vec<String> = text(words);
            samples.push(format!("{}, {},", words[0], words[4]));
            samples
        }
    };
    samples.extend(["surely not".to_owned(), String::new()]);
    samples
}

#[test]
fn values_are_taken_where_librdkafka_takes_them() {
    for (name, _, kind) in SETTINGS {
        for value in samples(*kind) {
            let here = normal(*kind, &value);
            let there = takes(name, &value);
            assert!(
                there.is_none_or(|there| there == here.is_ok()),
                "{name} = {value}: {here:?} here, {there:?} there"
            );
            // The normalised value must mean the same to librdkafka.
            if let Ok(normal) = here {
                assert_ne!(takes(name, &normal), Some(false), "{name} = {normal}");
            }
        }
    }
}

#[test]
fn librdkafka_has_no_setting_that_is_missing() {
    let missing: Vec<String> = Conf::names()
        .into_iter()
        .filter(|name| !name.ends_with("_cb"))
        .filter(|name| {
            let unknown = ConnectionConfig::empty().set(name, "no value fits");
            unknown.is_err_and(|e| e.to_string().contains("there is no such setting"))
        })
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn what_does_not_fit_is_no_secret() {
    for (name, _, kind) in SETTINGS {
        assert!(!is_secret(name) || *kind == Kind::Text, "{name}");
    }
}
