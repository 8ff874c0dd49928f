//! Who a client is: SCRAM-SHA-256, in which an unknown user looks like a wrong password.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pgwire::api::RandomPidSecretKeyGenerator;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{
    SCRAM_ITERATIONS, ScramAuth, gen_salted_password, random_nonce,
};
use pgwire::api::auth::{AuthSource, DefaultServerParameterProvider, LoginInfo, Password};
use pgwire::error::PgWireResult;
use sha2::{Digest, Sha256};

use super::User;

const SALT_BYTES: usize = 16;

/// The users, with their passwords salted.
pub(super) struct Logins {
    /// What salts are made of, also for users that there are not: each name always has the same.
    secret: String,
    users: HashMap<String, (User, Vec<u8>)>,
}

impl Logins {
    pub(super) fn new(users: &[User]) -> Self {
        let secret = random_nonce() + &random_nonce();
        let salted = users.iter().map(|user| {
            let salt = salt(&secret, &user.name);
            let salted = gen_salted_password(user.password.reveal(), &salt, SCRAM_ITERATIONS);
            (user.name.clone(), (user.clone(), salted))
        });
        Self {
            users: salted.collect(),
            secret,
        }
    }

    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|(user, _)| user)
    }
}

fn salt(secret: &str, user: &str) -> Vec<u8> {
    let digest = Sha256::digest(format!("salt {secret} {user}"));
    digest[..SALT_BYTES].to_vec()
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthSource for Logins {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let name = login.user().unwrap_or_default();
        let salted = match self.users.get(name) {
            Some((_, salted)) => salted.clone(),
            // No password leads to it.
            None => Sha256::digest(format!("none {} {name}", self.secret)).to_vec(),
        };
        Ok(Password::new(Some(salt(&self.secret, name)), salted))
    }
}

/// The login of one connection.
pub(super) type Login = SASLAuthStartupHandler<DefaultServerParameterProvider>;

pub(super) fn login(logins: &Arc<Logins>, pids: &Arc<RandomPidSecretKeyGenerator>) -> Login {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = server_version();
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    SASLAuthStartupHandler::new(Arc::new(parameters))
        .with_scram(ScramAuth::new(Arc::clone(logins) as _))
        // One for all, so that process ids differ.
        .with_pid_secret_key_generator(Arc::clone(pids) as _)
}

/// The version of PostgreSQL whose clients are met, and ours.
pub(super) fn server_version() -> String {
    format!("16.6 (kafka-sql {})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use datafusion_kafka::config::ScanBudget;

    use super::*;
    use crate::config::Secret;

    /// A text that stands in the environment of tests.
    const PASSWORD: &str = env!("CARGO_PKG_NAME");

    fn ada() -> User {
        User {
            name: "ada".to_owned(),
            password: Secret::new("password", "env:CARGO_PKG_NAME").unwrap(),
            budget: ScanBudget::default(),
        }
    }

    async fn password(logins: &Logins, user: &str) -> Password {
        let login = LoginInfo::new(Some(user), None, String::new());
        logins.get_password(&login).await.unwrap()
    }

    #[tokio::test]
    async fn an_unknown_user_has_a_salt_as_well() {
        let logins = Logins::new(&[ada()]);
        let known = password(&logins, "ada").await;
        let unknown = password(&logins, "eve").await;
        assert_eq!(
            known.salt().map(<[u8]>::len),
            unknown.salt().map(<[u8]>::len)
        );
        assert_eq!(unknown.salt(), password(&logins, "eve").await.salt());
        assert_ne!(unknown.salt(), known.salt());
        assert_eq!(known.password().len(), unknown.password().len());
        let salted = gen_salted_password(PASSWORD, known.salt().unwrap(), SCRAM_ITERATIONS);
        assert_eq!(known.password(), salted);
    }

    #[test]
    fn nothing_shows_a_password() {
        let logins = Logins::new(&[ada()]);
        let shown = format!("{:?} {logins:?}", ada());
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}
