//! The states that crashes and slow drivers leave behind.

use super::*;

#[tokio::test]
async fn open_completes_what_a_crash_left_unpublished() {
    let (_folder, store) = local();
    let sink = open(&store, options()).await;
    let first = batch(0, None, 3);
    deliver(&sink, &first, 0..3).await;
    let published = plain(&store).await;
    assert_eq!(published.len(), 1);
    // Between the manifest and the publication: the staged name alone.
    store.delete(&published).await.unwrap();
    assert_eq!(ids(&store).await, [0, 1, 2], "read under its staged name");
    let sink = ParquetSink::new(store.clone(), options());
    let committed = sink.open(&job()).await.unwrap().committed;
    assert_eq!(committed.unwrap().ends, first.ends());
    assert_eq!(plain(&store).await, published);
    // Both names, and then the published one alone.
    open(&store, options()).await;
    store.delete_folder(manifest::STAGED).await.unwrap();
    let opened = open(&store, options()).await;
    deliver(&opened, &batch(1, Some(3), 4), 3..4).await;
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
    // Neither: that is no crash.
    let names = store.list("").await.unwrap();
    let names: Vec<_> = names
        .into_iter()
        .filter(|n| n.contains("part-") || n.contains("staged"))
        .collect();
    store.delete(&names).await.unwrap();
    let error = sink.open(&job()).await.unwrap_err();
    assert!(
        error.to_string().contains("neither there nor staged"),
        "{error}"
    );
}

#[tokio::test]
async fn hundreds_of_batches_are_listed_in_few_files() {
    for store in [
        local().1,
        Store::open("memory:///t", &HashMap::new()).unwrap(),
    ] {
        let sink = open(&store, options()).await;
        let slow = open(&store, options()).await;
        let late = batch(0, None, 2);
        let late_staged = stage(&slow, &late, rows(0..2)).await;
        for number in 0..305 {
            let from = (number > 0).then_some(number);
            let next = batch(number as u64, from, number + 1);
            deliver(&sink, &next, number..number + 1).await;
        }
        let listed = store.list(manifest::MANIFESTS).await.unwrap();
        let checkpoints = listed.iter().filter(|name| name.ends_with(".jsonl"));
        assert_eq!(checkpoints.count(), 3);
        let singles = listed.iter().filter(|name| name.ends_with(".json"));
        assert_eq!(singles.count(), 105);
        let row = Row::new(&store, "job");
        let numbers: Vec<u64> = row
            .records()
            .await
            .unwrap()
            .iter()
            .map(|r| r.number)
            .collect();
        assert_eq!(numbers, (0..305).collect::<Vec<u64>>());
        let Held::Exactly(held) = ParquetSink::new(store.clone(), options())
            .held(&batch(3, Some(3), 4), &job().schema)
            .await
            .unwrap()
        else {
            panic!("a batch that is in a checkpoint");
        };
        let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
        assert_eq!(held.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        // The name of its manifest was taken, and is free again: it must not count.
        let before = plain(&store).await.len();
        assert_eq!(before, 305);
        let error = conflict(slow.commit(&late, late_staged).await);
        assert!(
            error.contains("staged files") || error.contains("driver"),
            "{error}"
        );
        assert_eq!(plain(&store).await.len(), before);
        let again = ParquetSink::new(store.clone(), options());
        let opened = again.open(&job()).await.unwrap();
        assert_eq!(opened.committed.unwrap().batch, 304);
        deliver(&opened.sink, &batch(305, Some(305), 306), 305..306).await;
        assert_eq!(row.records().await.unwrap().len(), 306);
    }
}

#[tokio::test]
async fn a_manifest_under_a_pruned_number_is_withdrawn() {
    let (_folder, store) = local();
    let sink = open(&store, options()).await;
    for number in 0..201 {
        let from = (number > 0).then_some(number);
        deliver(&sink, &batch(number as u64, from, number + 1), 0..0).await;
    }
    let row = Row::new(&store, "job");
    assert!(row.get(50).await.unwrap().is_none(), "pruned");
    let record = Record {
        number: 50,
        batch: 50,
        attempt: "f".repeat(32),
        schema: String::new(),
        partitioned_by: vec![],
        files: vec![],
    };
    let stray = Manifest::next(None, &batch(50, Some(50), 60), record);
    assert_eq!(
        row.put(&stray, Durability::None).await.unwrap(),
        Created::New
    );
    assert!(!row.took(&stray).await.unwrap());
    // It is not seen before it is withdrawn either.
    assert_eq!(row.newest().await.unwrap().unwrap().record.number, 200);
    assert_eq!(row.records().await.unwrap()[50].batch, 50);
    assert!(row.records().await.unwrap()[50].attempt != "f".repeat(32));
    row.withdraw(50).await.unwrap();
    // One that is followed is not taken for a stray.
    let last = row.get(199).await.unwrap().unwrap();
    assert!(row.took(&last).await.unwrap());
}

#[tokio::test]
async fn a_hundred_checkpoints_become_one() {
    let (_folder, store) = local();
    let row = Row::new(&store, "job");
    let attempt = "a".repeat(32);
    let record = |number| Record {
        number,
        batch: number,
        attempt: attempt.clone(),
        schema: String::new(),
        partitioned_by: vec![],
        files: vec![],
    };
    let folder = manifest::folder_of("job");
    for part in 0..99u64 {
        let records: Vec<_> = (part * 100..part * 100 + 100).map(record).collect();
        let name = format!(
            "{folder}/checkpoints/{:020}-{:020}.jsonl",
            part * 100,
            part * 100 + 99
        );
        let bytes = manifest::checkpoint("job", &records).unwrap();
        store.put(&name, bytes, Durability::None).await.unwrap();
    }
    for number in 9900..10_003 {
        let manifest = Manifest::next(None, &batch(number, None, 1), record(number));
        row.put(&manifest, Durability::None).await.unwrap();
    }
    row.compact(Durability::None).await.unwrap();
    let listed = store.list(&format!("{folder}/checkpoints")).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(row.records().await.unwrap().len(), 10_003);
}

#[tokio::test]
async fn of_two_drivers_the_slower_one_is_refused_and_leaves_nothing() {
    let (_folder, store) = local();
    let one = open(&store, options()).await;
    let other = open(&store, options()).await;
    let (first, same, further) = (batch(0, None, 2), batch(0, None, 2), batch(0, None, 3));
    let first_staged = stage(&one, &first, rows(0..2)).await;
    let same_staged = stage(&other, &same, rows(0..2)).await;
    let further_staged = stage(&other, &further, rows(0..3)).await;
    one.commit(&first, first_staged).await.unwrap();
    other.commit(&same, same_staged).await.unwrap();
    conflict(other.commit(&further, further_staged).await);
    assert_eq!(plain(&store).await.len(), 1);
    assert_eq!(ids(&store).await, [0, 1]);
    other.abort(&further).await.unwrap();
    let other = open(&store, options()).await;
    deliver(&other, &batch(1, Some(2), 3), 2..3).await;
    open(&store, options()).await;
    let staged = store.list(manifest::STAGED).await.unwrap();
    assert_eq!(staged.len(), 1, "only the newest batch's: {staged:?}");
}

#[tokio::test]
async fn a_commit_that_nobody_knows_the_end_of_is_not_undone() {
    let (_folder, store) = local();
    let sink = open(&store, options()).await;
    let first = batch(0, None, 2);
    let staged = stage(&sink, &first, rows(0..2)).await;
    sink.commit(&first, staged).await.unwrap();
    sink.abort(&first).await.unwrap();
    assert_eq!(store.list(manifest::STAGED).await.unwrap().len(), 1);
    // Staged files of another driver's batch stay: its manifest may still come.
    let second = batch(1, Some(2), 4);
    let staged = stage(&sink, &second, rows(2..4)).await;
    open(&store, options()).await;
    sink.commit(&second, staged).await.unwrap();
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
    // Those that were removed are missed before the commit, not after.
    let third = batch(2, Some(4), 5);
    let staged = stage(&sink, &third, rows(4..5)).await;
    store.delete_folder(manifest::STAGED).await.unwrap();
    let error = sink.commit(&third, staged).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Sink {
                transient: true,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
}

/// What the sink remembers is not what it answers: a store that fails is neither "next" nor a conflict.
#[tokio::test]
async fn a_commit_whose_store_does_not_answer_fails_as_the_store_does() {
    let (_folder, store) = local();
    let (one, other) = (open(&store, options()).await, open(&store, options()).await);
    deliver(&one, &batch(0, None, 2), 0..2).await;
    // The other one remembers an empty row of manifests, with which this batch is in conflict.
    let second = batch(1, Some(2), 4);
    let staged = stage(&one, &second, rows(2..4)).await;
    let row = store.local().unwrap().join(manifest::folder_of("job"));
    let away = row.with_extension("away");
    std::fs::rename(&row, &away).unwrap();
    std::fs::write(&row, "no folder").unwrap();
    let error = other.commit(&second, staged.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Sink { .. }), "{error}");
    assert!(error.to_string().contains("listing"), "{error}");
    // Nor does one that remembers the batch as the next one commit what it cannot write.
    let error = one.commit(&second, staged.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Sink { .. }), "{error}");
    std::fs::remove_file(&row).unwrap();
    std::fs::rename(&away, &row).unwrap();
    assert_eq!(ids(&store).await, [0, 1]);
    // The store is asked again, and says that the batch is the next one.
    other.commit(&second, staged).await.unwrap();
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
    assert_eq!(plain(&store).await.len(), 2);
}

#[tokio::test]
async fn orphans_are_found_and_removed() {
    let (_folder, store) = local();
    let sink = open(&store, options()).await;
    stage(&sink, &batch(0, None, 9), rows(0..9)).await;
    let first = batch(0, None, 2);
    deliver(&sink, &first, 0..2).await;
    stage(&sink, &batch(1, Some(2), 9), rows(0..9)).await;
    let published = plain(&store).await;
    store.delete(&published).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert!(clean(&store, hour, false).await.unwrap().is_empty());
    let found = clean(&store, Duration::ZERO, true).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(store.list(manifest::STAGED).await.unwrap().len(), 3);
    let removed = clean(&store, Duration::ZERO, false).await.unwrap();
    let names = |orphans: &[Orphan]| orphans.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&removed), names(&found));
    assert_eq!(
        ids(&store).await,
        [0, 1],
        "the newest batch is not published yet"
    );
    open(&store, options()).await;
    assert_eq!(clean(&store, Duration::ZERO, false).await.unwrap().len(), 1);
    assert_eq!(plain(&store).await, published);
    assert_eq!(ids(&store).await, [0, 1]);
}
