//! Logs that somebody else wrote: whatever is in them, a job runs or says why not.

use super::super::OffsetLog;
use super::*;
use crate::spoil::spoiled;
use crate::store::Store;

async fn look(world: &World) {
    let log = Store::open(world.checkpoint().to_str().unwrap(), &Default::default());
    let log = OffsetLog::new(log.unwrap());
    let _ = log.job().await;
    for batch in log.intents().await.unwrap() {
        if let Ok(intent) = log.intent(batch).await {
            for source in &intent.sources {
                let _ = source.reading().map(|reading| reading.len());
            }
            let _ = intent.ends();
        }
        if let Ok(Some(commit)) = log.commit(batch).await {
            let _ = (commit.progress.records(), commit.progress.rows());
            let _ = commit.progress.to_json();
        }
    }
}

#[tokio::test]
async fn changed_files_of_a_log_are_read_or_refused() {
    for name in [
        "job.json",
        "start.json",
        "owner.json",
        "intent/00000000000000000001",
        "commit/00000000000000000001",
    ] {
        let world = World::new(2);
        for _ in 0..2 {
            world.produce(0, 3);
            world.produce(1, 2);
            world.run().await.unwrap();
        }
        let path = world.checkpoint().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        for (n, changed) in spoiled(&text).iter().enumerate() {
            std::fs::write(&path, changed).unwrap();
            look(&world).await;
            // A log that is not whole is looked at again, after a pause.
            if n % 8 != 0 {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            for kind in ["intent", "commit"] {
                std::fs::create_dir(folder.path().join(kind)).unwrap();
            }
            copy(world.checkpoint(), folder.path());
            let job = MicroBatch::builder(world.context(), "job")
                .checkpoint(folder.path().to_str().unwrap())
                .sink("out", Arc::new(world.sink.clone()))
                .unwrap()
                .trigger(Trigger::AvailableNow)
                .fsync(false)
                .insert(INSERT);
            if let Ok(mut job) = job.build().await {
                let _ = job.run(&Stop::new()).await;
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The number after the last one there can be.
#[tokio::test]
async fn a_log_of_the_last_batch_there_can_be_is_refused() {
    let world = World::new(1);
    world.produce(0, 3);
    world.run().await.unwrap();
    let last = u64::MAX;
    for kind in ["intent", "commit"] {
        let old = world.checkpoint().join(kind).join(format!("{:020}", 0));
        let text = std::fs::read_to_string(&old).unwrap();
        let text = text.replacen("\"batch\":0", &format!("\"batch\":{last}"), 1);
        std::fs::write(old.with_file_name(last.to_string()), text).unwrap();
        std::fs::remove_file(old).unwrap();
    }
    let error = world.run().await.unwrap_err().to_string();
    assert!(error.contains("18446744073709551615"), "{error}");
}
