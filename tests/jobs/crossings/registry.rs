//! A schema registry for the crossings, which is a token endpoint too.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::stub::{Reply, Stub};
use super::table::encode::SCHEMA_ID;
use super::table::model::Format;

/// The id of the first registered schema.
const FIRST_ID: usize = 100;

/// Who may have a token, and the same as the header of a request.
const CLIENT: &str = "reader";
const SECRET: &str = "secret";
const LOGIN: &str = "Basic cmVhZGVyOnNlY3JldA==";

/// Of `admin` until the year 2100, without a signature, for which the shared broker does not ask.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.\
                     eyJzdWIiOiJhZG1pbiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.";

/// Arguments for a login with tokens of an endpoint.
pub(super) fn login_with_tokens(endpoint: &str) -> Vec<String> {
    let settings = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", CLIENT),
        ("sasl.oauthbearer.client.secret", SECRET),
        ("sasl.oauthbearer.token.endpoint.url", endpoint),
    ];
    let arguments = settings.iter();
    arguments
        .flat_map(|(key, value)| ["-X".to_owned(), format!("{key}={value}")])
        .collect()
}

/// A registry that has a format's schema under its name, and accepts further schemas.
pub(super) struct Registry {
    pub(super) stub: Stub,
    _runtime: tokio::runtime::Runtime,
}

impl Registry {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let registered: Mutex<Vec<(String, String)>> = Mutex::default();
        let stub = Stub::new(move |asked, _| {
            let mut registered = registered.lock().expect("nobody panics with it");
            let (method, path) = asked.line.split_once(' ').unwrap_or_default();
            let parts: Vec<&str> = path.split('/').skip(1).collect();
            if parts == ["token"] {
                let is_known = asked.authorization.as_deref() == Some(LOGIN);
                let answer =
                    json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600});
                return match is_known && asked.body.contains("grant_type=client_credentials") {
                    true => Reply::new(200, answer.to_string()),
                    false => Reply::new(401, "{}"),
                };
            }
            let made = |id: usize, schema: &str| {
                let answer = json!({"id": id + FIRST_ID, "version": 1, "schema": schema});
                Reply::new(200, answer.to_string())
            };
            let at = match parts[1..] {
                ["subjects", subject, "versions"] if method == "POST" => {
                    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
                    let schema = body["schema"].as_str().unwrap_or_default().to_owned();
                    registered.push((subject.to_owned(), schema));
                    Some(registered.len() - 1)
                }
                ["subjects", subject, ..] => registered.iter().position(|(of, _)| of == subject),
                ["schemas", "ids", id] => id
                    .parse::<usize>()
                    .ok()
                    .and_then(|id| id.checked_sub(FIRST_ID)),
                _ => None,
            };
            if let Some((id, (_, schema))) = at.and_then(|at| Some((at, registered.get(at)?))) {
                return made(id, schema);
            }
            let format = Format::ALL
                .iter()
                .find(|format| format!("{format:?}") == parts[0]);
            match format.and_then(|format| format.schema()) {
                // The subjects of sinks do not exist before they are written.
                Some((end, schema)) if !path.contains("-out-value") => {
                    let kind = if end == "avsc" { "AVRO" } else { "PROTOBUF" };
                    let answer = json!({"id": SCHEMA_ID, "schemaType": kind, "schema": schema});
                    Reply::new(200, answer.to_string())
                }
                _ => Reply::unknown(),
            }
        });
        let stub = runtime.block_on(stub);
        Self {
            stub,
            _runtime: runtime,
        }
    }
}
