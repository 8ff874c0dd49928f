//! Files of the log that are not what they must be.

use super::*;

async fn with_two_batches() -> World {
    let world = World::new(1);
    for _ in 0..2 {
        world.produce(0, 5);
        world.run().await.unwrap();
    }
    world
}

fn file(world: &World, name: &str) -> std::path::PathBuf {
    world.checkpoint().join(name)
}

async fn refused(world: &World) -> String {
    world.produce(0, 1);
    world.run().await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_torn_file_is_named() {
    let world = with_two_batches().await;
    let name = "intent/00000000000000000001";
    std::fs::write(file(&world, name), "{\"version\":1,\"jo").unwrap();
    let error = refused(&world).await;
    assert!(error.contains(name) && error.contains("torn"), "{error}");
}

#[tokio::test]
async fn another_version_is_refused() {
    let world = with_two_batches().await;
    let path = file(&world, "intent/00000000000000000001");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"version\":1", "\"version\":99", 1)).unwrap();
    let error = refused(&world).await;
    assert!(
        error.contains("version is 99") && error.contains("knows 1"),
        "{error}"
    );
}

#[tokio::test]
async fn missing_files_are_refused() {
    for (gone, part) in [
        ("intent/00000000000000000001", "the file is missing"),
        ("commit/00000000000000000000", ""),
    ] {
        let world = with_two_batches().await;
        std::fs::remove_file(file(&world, gone)).unwrap();
        if part.is_empty() {
            // An older commit is not needed any more.
            world.produce(0, 1);
            world.run().await.unwrap();
            world.assert_exactly(&[11]);
        } else {
            let error = refused(&world).await;
            assert!(error.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn a_lost_last_commit_is_written_again() {
    let world = with_two_batches().await;
    std::fs::remove_file(file(&world, "commit/00000000000000000001")).unwrap();
    world.produce(0, 1);
    world.run().await.unwrap();
    world.assert_exactly(&[11]);
}

#[tokio::test]
async fn the_log_keeps_the_last_hundred_batches() {
    let mut world = World::new(1);
    world.limits.max_offsets = Some(1);
    world.produce(0, 131);
    world.run().await.unwrap();
    let mut job = world.job().await;
    let kept = job.log().intents().await.unwrap();
    assert_eq!(kept.last(), Some(&130));
    assert_eq!(kept.first(), Some(&31));
    assert!(job.step().await.unwrap().is_none());
    world.assert_exactly(&[131]);
}
