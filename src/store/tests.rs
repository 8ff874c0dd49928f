//! A local folder and an object store keep the same promises.

use super::*;

#[cfg(unix)]
#[test]
fn a_folder_has_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap().join("real");
    std::fs::create_dir(&real).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let url = |path: &std::path::Path| {
        let store = Store::open(path.to_str().unwrap(), &HashMap::new());
        store.unwrap().url().to_owned()
    };
    let expected = real.join("new").to_str().unwrap().to_owned();
    assert_eq!(url(&link.join("new")), expected);
    assert_eq!(url(&real.join("new/")), expected);
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn keeps_its_promises(store: &Store) {
    use Created::{Exists, New};
    let fsync = Durability::Fsync;
    assert_eq!(store.get("a/b").await.unwrap(), None);
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
    assert_eq!(store.create("a/b", bytes("1"), fsync).await.unwrap(), New);
    assert_eq!(
        store.create("a/b", bytes("2"), fsync).await.unwrap(),
        Exists
    );
    assert_eq!(store.create("a/b", bytes("1"), fsync).await.unwrap(), New);
    assert_eq!(store.get("a/b").await.unwrap(), Some(bytes("1")));
    store.put("a/b", bytes("three"), fsync).await.unwrap();
    assert_eq!(store.size("a/b").await.unwrap(), Some(5));
    assert_eq!(store.size("a/x").await.unwrap(), None);
    store
        .put("a/c d", bytes(""), Durability::None)
        .await
        .unwrap();
    store
        .put("ab/c", bytes("x"), Durability::None)
        .await
        .unwrap();
    assert_eq!(store.list("a").await.unwrap(), ["a/b", "a/c d"]);
    assert_eq!(store.list("").await.unwrap(), ["a/b", "a/c d", "ab/c"]);
    assert!(store.rename("a/b", "z/y/b", fsync).await.unwrap());
    assert!(!store.rename("a/b", "z/y/b", fsync).await.unwrap());
    assert_eq!(store.get("z/y/b").await.unwrap(), Some(bytes("three")));
    let again = "z/y=%20 x/b";
    for _ in 0..2 {
        assert!(store.link("z/y/b", again).await.unwrap());
    }
    assert!(!store.link("nothing", "z/nothing").await.unwrap());
    store.sync(vec![again.to_owned()]).await.unwrap();
    let entries = store.entries("z").await.unwrap();
    let entries: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.bytes)).collect();
    assert_eq!(entries, [("z/y/b", 5), (again, 5)]);
    assert_eq!(store.list_after("z", "z/y/b").await.unwrap(), [again]);
    let path = store.path(again).unwrap();
    assert!(path.as_ref().ends_with(again), "{path}");
    store.delete_folder("z/y=%20 x").await.unwrap();
    store.delete_folder("z/nowhere").await.unwrap();
    assert_eq!(store.list("z").await.unwrap(), ["z/y/b"]);
    let names = ["z/y/b", "nothing"].map(str::to_owned);
    store.delete(&names).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), ["a/c d", "ab/c"]);
    let path = store.path("a/c d").unwrap();
    let found = object_store::ObjectStoreExt::head(&store.object_store(), &path).await;
    assert_eq!(found.unwrap().size, 0);
}

#[tokio::test]
async fn a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("not yet/there");
    let store = Store::open(inside.to_str().unwrap(), &HashMap::new()).unwrap();
    keeps_its_promises(&store).await;
}

#[tokio::test]
async fn an_object_store() {
    let store = Store::open("memory:///some/prefix", &HashMap::new()).unwrap();
    keeps_its_promises(&store).await;
}

#[tokio::test]
async fn of_many_creators_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let store = Store::open(&url, &HashMap::new()).unwrap();
    let creators = (0..20).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let bytes = bytes(&n.to_string());
            store.create("one", bytes, Durability::None).await.unwrap()
        })
    });
    let results = futures::future::join_all(creators).await;
    let new = results
        .into_iter()
        .filter(|r| matches!(r, Ok(Created::New)));
    assert_eq!(new.count(), 1);
    assert_eq!(
        store.list("").await.unwrap(),
        ["one"],
        "no file is left over"
    );
}

#[test]
fn names_that_are_too_long_are_refused_and_have_a_possible_one() {
    for url in ["/data", "memory:///data"] {
        let store = Store::open(url, &HashMap::new()).unwrap();
        let part = |bytes: usize| format!("k={}", "x".repeat(bytes - 2));
        let file = "part-0.parquet";
        let fits = format!("{}/{file}", part(255));
        assert_eq!(store.check_name(&fits), Ok(()));
        assert_eq!(store.possible_name(&fits), fits);
        let long = format!("{}/{file}", part(256));
        let error = store.check_name(&long).unwrap_err();
        assert!(error.starts_with("a name of 256 bytes"), "{error}");
        let deep = format!("{0}/{0}/{0}/{0}/{file}", part(255));
        let error = store.check_name(&deep).unwrap_err();
        assert!(error.starts_with("a path of 10"), "{error}");
        for long in [long, deep, format!("k={}/{file}", "é".repeat(200))] {
            let possible = store.possible_name(&long);
            let fits = long.split('/').all(|part| part.len() <= 255);
            if (url == "/data" && fits) || (url != "/data" && long.len() < 1000) {
                assert_eq!(possible, long, "it may be there");
                continue;
            }
            assert_eq!(store.check_name(&possible), Ok(()), "{possible}");
            assert!(
                possible.starts_with("k=") && possible.ends_with(file),
                "{possible}"
            );
            let other = store.possible_name(&long.replacen('=', "=y", 1));
            assert_ne!(possible, other);
        }
    }
}

#[test]
fn invalid_urls_are_refused() {
    let open = |url: &str| Store::open(url, &HashMap::new()).map(|s| s.url().to_owned());
    assert!(open("").is_err());
    assert!(
        open("ftp://host/x")
            .unwrap_err()
            .to_string()
            .contains("ftp")
    );
    assert!(open("relative/dir").unwrap().ends_with("/relative/dir"));
    assert_eq!(open("file:///a%20b").unwrap(), "/a b");
}

#[test]
fn secrets_of_a_url_are_not_shown() {
    let store = Store::open("memory://user:hunter2@host/x?token=y", &HashMap::new()).unwrap();
    assert_eq!(store.url(), "memory://host/x");
    assert!(!format!("{store:?}").contains("hunter2"));
}

#[test]
fn another_process_opens_a_store_whose_settings_it_has() {
    let address = |url: &str, options: &[(&str, &str)]| {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let store = Store::open(url, &options.collect()).unwrap();
        store.address().map(str::to_owned)
    };
    let here = std::env::current_dir().unwrap().join("out/a b");
    let here = here.to_str().unwrap();
    assert_eq!(address("out/a b", &[]).as_deref(), Some(here));
    assert_eq!(address("file:///out/x", &[]).as_deref(), Some("/out/x"));
    assert_eq!(address("memory:///x", &[]), None);
    #[cfg(feature = "s3")]
    for (url, options, expected) in [
        ("s3://lake/x/", vec![], Some("s3://lake/x")),
        (
            "s3://lake/x",
            vec![
                ("aws.access_key_id", "id"),
                ("aws.secret_access_key", "key"),
            ],
            None,
        ),
        ("s3://lake/x", vec![("aws.region", "here")], None),
        ("s3://id:key@lake/x", vec![], None),
    ] {
        assert_eq!(
            address(url, &options).as_deref(),
            expected,
            "{url} {options:?}"
        );
    }
}
