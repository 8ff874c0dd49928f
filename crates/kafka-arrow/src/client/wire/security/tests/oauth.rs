//! Tokens, and for how long they serve.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn unsecured(config: &str) -> Result<Unsecured> {
    let properties = BTreeMap::from([("sasl.oauthbearer.config".to_owned(), config.to_owned())]);
    Unsecured::new(Properties(&properties))
}

fn claims(token: &Token) -> serde_json::Value {
    let mut parts = token.value.split('.');
    assert_eq!(parts.next(), Some("eyJhbGciOiJub25lIn0"));
    let claims = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
    assert_eq!((parts.next(), parts.next()), (Some(""), None));
    serde_json::from_slice(&claims).unwrap()
}

#[test]
fn unsecured_tokens_hold_what_librdkafka_puts_there() {
    let now = UNIX_EPOCH + Duration::from_millis(1_549_251_467_546);
    let token = unsecured("principal=alice").unwrap().make(now);
    let expected = serde_json::json!({
        "sub": "alice", "iat": 1_549_251_467.546, "exp": 1_549_255_067.546
    });
    assert_eq!(claims(&token), expected);
    assert_eq!(token.expires, now + Duration::from_secs(3600));

    let config = "  principalClaimName=azp principal=ad\"min scopeClaimName=roles \
                  scope=a,,b lifeSeconds=10 extension_traceId=123=4";
    let token = unsecured(config).unwrap().make(now);
    let expected = serde_json::json!({
        "azp": "ad\"min", "iat": 1_549_251_467.546, "exp": 1_549_251_477.546, "roles": ["a", "b"]
    });
    assert_eq!(claims(&token), expected);
    let message = token.message().unwrap();
    assert!(message.starts_with("n,,\x01auth=Bearer eyJ"), "{message:?}");
    assert!(
        message.ends_with(".\x01traceId=123=4\x01\x01"),
        "{message:?}"
    );
}

#[test]
fn configurations_that_make_no_token() {
    for (config, reason) in [
        ("", "needs 'principal=NAME'"),
        ("lifeSeconds=5", "needs 'principal=NAME'"),
        ("principal=", "word 1: expected 'name=value'"),
        ("principal=a b", "word 2: expected 'name=value'"),
        ("principal=a nme=s3cret", "word 2: the name is not known"),
        ("principal=a lifeSeconds=0", "'lifeSeconds' must be"),
        ("principal=a extension_a1=x", "names consist of letters"),
        ("principal=a extension_auth=x", "'auth' is taken"),
    ] {
        let error = unsecured(config).unwrap_err().to_string();
        assert!(
            error.starts_with("setting 'sasl.oauthbearer.config': "),
            "{error}"
        );
        assert!(error.contains(reason), "{config}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

/// Counts its tokens. The first expires immediately, the others last an hour.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

#[async_trait]
impl TokenProvider for Counting {
    async fn token(&self) -> Result<Token, TokenError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err("no network".into()),
            1 => Ok(Token::lasting("t1", Duration::ZERO)),
            n => Ok(Token::lasting(format!("t{n}"), Duration::from_secs(3600))),
        }
    }
}

#[tokio::test]
async fn a_token_is_used_until_a_broker_refuses_it() {
    let tokens = Tokens::new(Arc::new(Counting::default()));
    let none = async || tokens.token().await.unwrap_err().to_string();
    assert_eq!(none().await, "no network");
    assert_eq!(
        none().await,
        "the token has expired already; does this machine's clock agree with the provider's?"
    );
    let token = tokens.token().await.unwrap();
    assert_eq!(token.value, "t2");
    assert_eq!(tokens.token().await.unwrap(), token);
    tokens.refused(&token).await;
    let other = tokens.token().await.unwrap();
    assert_eq!(other.value, "t3");
    // Another connection was refused with the old token.
    tokens.refused(&token).await;
    assert_eq!(tokens.token().await.unwrap(), other);
    assert!(!format!("{tokens:?}").contains("t3"), "{tokens:?}");
}

/// Gives a token once, which is to be renewed almost at once.
#[derive(Debug, Default)]
struct Once(AtomicU64);

#[async_trait]
impl TokenProvider for Once {
    async fn token(&self) -> Result<Token, TokenError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Token::lasting("first", Duration::from_millis(500))),
            _ => Err("no network".into()),
        }
    }
}

#[tokio::test]
async fn the_last_token_serves_until_it_expires() {
    let provider = Arc::new(Once::default());
    let tokens = Tokens::new(Arc::clone(&provider) as Arc<dyn TokenProvider>);
    let first = tokens.token().await.unwrap();
    let asked = || provider.0.load(Ordering::Relaxed);
    while asked() < 2 {
        assert_eq!(tokens.token().await.unwrap(), first);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The provider is left alone for a while.
    assert_eq!(tokens.token().await.unwrap(), first);
    assert_eq!(asked(), 2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(tokens.token().await.unwrap_err().to_string(), "no network");
}

#[test]
fn tokens_that_cannot_be_sent() {
    let refused = |token: Token| token.message().unwrap_err();
    let hour = Duration::from_secs(3600);
    assert!(refused(Token::lasting("", hour)).contains("empty"));
    assert!(refused(Token::lasting("a\nb", hour)).contains("blanks"));
    let token = Token::lasting("a", Duration::MAX).extension("a", "ü");
    assert!(refused(token).contains("extension 'a'"));
}
