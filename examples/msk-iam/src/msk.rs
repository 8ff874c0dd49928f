//! Tokens of AWS MSK's IAM login.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_msk_iam_sasl_signer::generate_auth_token_from_credentials_provider as sign;
use kafka_arrow::client::{Token, TokenError, TokenProvider};

#[derive(Debug)]
pub struct Msk {
    region: Region,
    credentials: SharedCredentialsProvider,
}

impl Msk {
    /// With the credentials that the AWS SDK finds: of the environment, a profile, a container, an instance.
    pub async fn new(region: String) -> Result<Self, TokenError> {
        let region = Region::new(region);
        let defaults = aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
        let credentials = defaults.load().await.credentials_provider();
        Ok(Self {
            region,
            credentials: credentials.ok_or("the AWS SDK has no provider of credentials")?,
        })
    }
}

#[async_trait::async_trait]
impl TokenProvider for Msk {
    async fn token(&self) -> Result<Token, TokenError> {
        let credentials = self.credentials.provide_credentials().await?;
        // A token is no longer valid than what signed it.
        let credentials_end = credentials.expiry();
        let credentials = SharedCredentialsProvider::new(credentials);
        let (token, expires_ms) = sign(self.region.clone(), credentials).await?;
        let expires = UNIX_EPOCH + Duration::from_millis(expires_ms.try_into()?);
        Ok(Token::new(
            token,
            credentials_end.map_or(expires, |end| end.min(expires)),
        ))
    }
}
