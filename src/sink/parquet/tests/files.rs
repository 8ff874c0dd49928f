//! Files, their folders and columns, and what readers make of them.

use super::*;

#[tokio::test]
async fn files_are_cut_by_rows_and_bytes() {
    let (_folder, store) = local();
    let cut = ParquetOptions {
        max_file_rows: 4,
        ..options()
    };
    let sink = open(&store, cut).await;
    deliver(&sink, &batch(0, None, 10), 0..10).await;
    assert_eq!(plain(&store).await.len(), 3);
    let cut = ParquetOptions {
        max_file_bytes: 1,
        ..options()
    };
    let sink = open(&store, cut).await;
    deliver(&sink, &batch(1, Some(10), 12), 10..12).await;
    assert_eq!(plain(&store).await.len(), 4);
    assert_eq!(ids(&store).await, (0..12).collect::<Vec<_>>());
    let context = session(&store, "").await;
    assert_eq!(query(&context, "SELECT count(*) FROM t").await, [12]);
    assert_eq!(query(&context, "SELECT id FROM t LIMIT 3").await.len(), 3);
}

#[tokio::test]
async fn folders_come_back_as_columns_and_prune() {
    for store in [
        local().1,
        Store::open("memory:///t", &HashMap::new()).unwrap(),
    ] {
        let by_name = ParquetOptions {
            partition_by: vec!["name".to_owned()],
            max_open_files: 2,
            ..options()
        };
        let sink = ParquetSink::new(store.clone(), by_name);
        let opened = sink.open(&job()).await.unwrap().sink;
        deliver(&opened, &batch(0, None, 20), 0..20).await;
        let files = plain(&store).await;
        assert!(
            files.iter().any(|f| f.starts_with("name=n%2F2/part-")),
            "{files:?}"
        );
        assert!(
            files
                .iter()
                .any(|f| f.starts_with("name=__HIVE_DEFAULT_PARTITION__/"))
        );
        let Held::Exactly(held) = sink.held(&batch(0, None, 20), &job().schema).await.unwrap()
        else {
            panic!("the batch is there");
        };
        let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
        let mut found: Vec<(i64, Option<String>)> = vec![];
        for rows in &held {
            let ids = rows
                .column_by_name("id")
                .unwrap()
                .as_primitive::<Int64Type>();
            let names = rows.column_by_name("name").unwrap().as_string::<i32>();
            let names = names.iter().map(|name| name.map(str::to_owned));
            found.extend(ids.values().iter().copied().zip(names));
        }
        found.sort();
        let expected = (0..20).map(|id| (id, (id % 3 != 0).then(|| format!("n/{}", id % 4))));
        assert_eq!(found, expected.collect::<Vec<_>>());
        if store.local().is_none() {
            continue;
        }
        let context = session(&store, "").await;
        let of_two = "SELECT id FROM t WHERE name = 'n/2' ORDER BY id";
        assert_eq!(query(&context, of_two).await, [2, 10, 14]);
        let nulls = "SELECT count(*) FROM t WHERE name IS NULL";
        assert_eq!(query(&context, nulls).await, [7]);
        let explained = context.sql(&format!("EXPLAIN {of_two}")).await.unwrap();
        let explained = explained.collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&explained)
            .unwrap()
            .to_string();
        assert!(text.contains("name=n%2F2"), "{text}");
        assert!(!text.contains("name=n%2F1"), "{text}");
        let other = ParquetSink::new(store.clone(), options());
        let error = other.open(&job()).await.unwrap_err();
        assert!(
            error.to_string().contains("partitioned by (name)"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn columns_are_added_and_not_changed() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    let opened = sink.open(&job()).await.unwrap().sink;
    deliver(&opened, &batch(0, None, 2), 0..2).await;
    let more = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![2])) as _),
        ("extra", Arc::new(Int64Array::from(vec![7])) as _),
    ])
    .unwrap();
    let wider = SinkJob {
        name: "job".to_owned(),
        schema: more.schema(),
    };
    let opened = sink.open(&wider).await.unwrap().sink;
    let next = batch(1, Some(2), 3);
    let staged = stage(&opened, &next, more).await;
    opened.commit(&next, staged).await.unwrap();
    let context = session(&store, "").await;
    let extra = "SELECT coalesce(extra, -1) FROM t ORDER BY id";
    assert_eq!(query(&context, extra).await, [-1, -1, 7]);
    let names = "SELECT count(name) FROM t";
    assert_eq!(query(&context, names).await, [1]);
    let changed = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as _)]);
    let changed = SinkJob {
        name: "job".to_owned(),
        schema: changed.unwrap().schema(),
    };
    let error = sink.open(&changed).await.unwrap_err();
    assert!(matches!(error, Error::Schema { .. }), "{error}");
    assert!(
        error.to_string().contains("column 'id' is Int64"),
        "{error}"
    );
}

#[tokio::test]
async fn ordinary_tables_stay_as_they_are() {
    let (folder, store) = local();
    let declared = format!(
        "CREATE EXTERNAL TABLE d (id BIGINT, name TEXT) STORED AS PARQUET LOCATION '{}/'",
        store.url()
    );
    let context = crate::session::KafkaSessionBuilder::new().build().unwrap();
    context.sql(&declared).await.unwrap();
    assert!(query(&context, "SELECT id FROM d").await.is_empty());
    let insert = context.sql("INSERT INTO d VALUES (5, 'a'), (6, 'b')").await;
    insert.unwrap().collect().await.unwrap();
    assert_eq!(
        query(&context, "SELECT id FROM d ORDER BY id").await,
        [5, 6]
    );
    // Inferred, by folder, file and pattern.
    let file = plain(&store).await.remove(0);
    let places = [
        format!("{}/", store.url()),
        format!("file://{}/", store.url()),
        format!("{}/{file}", store.url()),
        format!("{}/*.parquet", store.url()),
    ];
    for (number, place) in places.iter().enumerate() {
        let create =
            format!("CREATE EXTERNAL TABLE i{number} STORED AS PARQUET LOCATION '{place}'");
        context.sql(&create).await.unwrap();
        let count = format!("SELECT count(*) FROM i{number} WHERE name = 'a'");
        assert_eq!(query(&context, &count).await, [1], "{place}");
    }
    // A job must not mix with them.
    let sink = ParquetSink::new(store.clone(), options());
    let error = conflict(sink.open(&job()).await);
    assert!(error.contains("no job wrote"), "{error}");
    drop(folder);
}

#[tokio::test]
async fn a_declared_table_reads_what_a_job_wrote_meanwhile() {
    let (_folder, store) = local();
    let context = crate::session::KafkaSessionBuilder::new().build().unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT, missing TEXT) STORED AS PARQUET LOCATION '{}' \
         OPTIONS ('max.file.rows' '2', 'shared' 'true')",
        store.url()
    );
    context.sql(&create).await.unwrap();
    let table = context.table_provider("t").await.unwrap();
    let table = table.downcast_ref::<crate::sink::SinkTable>().unwrap();
    let sink = table.sink().open(&job()).await.unwrap().sink;
    let first = batch(0, None, 5);
    let schema = rows([]).schema();
    let stream = futures::stream::iter([Ok(rows(0..5))]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
    let staged = sink.stage(&first, 0, stream).await.unwrap();
    assert!(
        query(&context, "SELECT CAST(id AS BIGINT) AS n FROM t")
            .await
            .is_empty()
    );
    sink.commit(&first, vec![staged]).await.unwrap();
    assert_eq!(plain(&store).await.len(), 3);
    let sql = "SELECT CAST(id AS BIGINT) AS n FROM t WHERE missing IS NULL ORDER BY n";
    assert_eq!(query(&context, sql).await, [0, 1, 2, 3, 4]);
    let insert = context.sql("INSERT INTO t VALUES (1, 'x')").await.unwrap();
    let error = insert.collect().await.unwrap_err().to_string();
    assert!(error.contains("runs in a job"), "{error}");
    let wrong = create
        .replace("max.file.rows", "max.file.row")
        .replace("TABLE t", "TABLE u");
    let error = context.sql(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("did you mean 'max.file.rows'"), "{error}");
}

/// Rows of payloads that do not compress, so many megabytes in batches of one.
fn payloads(megabytes: u64) -> Vec<RecordBatch> {
    let mut seed = 1u64;
    let batch = |_| {
        let mut next = || {
            // Xorshift.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        };
        let values = (0..1024).map(|_| (0..128).flat_map(|_| next()).collect::<Vec<u8>>());
        let values = arrow::array::BinaryArray::from_iter_values(values);
        RecordBatch::try_from_iter_with_nullable([("value", Arc::new(values) as _, true)]).unwrap()
    };
    (0..megabytes).map(batch).collect()
}

#[tokio::test]
async fn row_groups_end_early_where_the_pool_is_short() {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    let (_folder, store) = local();
    let batches = payloads(12);
    let schema = batches[0].schema();
    let job = SinkJob {
        name: "job".to_owned(),
        schema: SchemaRef::clone(&schema),
    };
    let sink = ParquetSink::new(store.clone(), options());
    let sink = sink.open(&job).await.unwrap().sink;
    let stage = async |batch: &BatchRanges, limit: usize| {
        let rows = futures::stream::iter(batches.clone().into_iter().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(
            SchemaRef::clone(&schema),
            rows,
        ));
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(limit));
        let staged = sink.stage_within(batch, 0, rows, &pool).await;
        assert_eq!(pool.reserved(), 0);
        staged
    };
    let first = batch(0, None, 10);
    let staged = stage(&first, 4 << 20).await.unwrap();
    sink.commit(&first, vec![staged]).await.unwrap();
    let context = session(&store, "").await;
    let found = query(&context, "SELECT count(*) FROM t").await;
    assert_eq!(found, [12 * 1024]);
    let name = plain(&store).await.remove(0);
    let file = std::fs::File::open(format!("{}/{name}", store.url())).unwrap();
    let reader = datafusion::parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let groups = datafusion::parquet::file::reader::FileReader::num_row_groups(&reader);
    assert!((4..=12).contains(&groups), "{groups} row groups");

    let refused = stage(&batch(1, Some(10), 20), 1 << 19).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Memory, "{refused}");
}

fn named(name: &str, id: i64) -> RecordBatch {
    let names: StringArray = [Some(name)].into_iter().collect();
    let ids: Int64Array = [id].into_iter().collect();
    RecordBatch::try_from_iter_with_nullable([
        ("name", Arc::new(names) as _, true),
        ("id", Arc::new(ids) as _, true),
    ])
    .unwrap()
}

fn by_name() -> ParquetOptions {
    ParquetOptions {
        partition_by: vec!["name".to_owned()],
        ..options()
    }
}

#[tokio::test]
async fn a_name_that_no_store_takes_fails_while_it_is_staged() {
    let (_folder, local) = local();
    let cloud = Store::open("memory:///target", &HashMap::new()).unwrap();
    for store in [local, cloud] {
        let sink = open(&store, by_name()).await;
        let first = batch(0, None, 1);
        // A slash takes three bytes of a folder's name.
        for long in ["x".repeat(300), "/".repeat(90)] {
            let rows = named(&long, 1);
            let schema = rows.schema();
            let stream = futures::stream::iter([Ok(rows)]);
            let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
            let refused = sink.stage(&first, 0, stream).await.unwrap_err().to_string();
            let begins: String = long.chars().take(40).collect();
            assert!(
                refused.contains(&format!(
                    "PARTITIONED BY name: the value of {} bytes that begins '{begins}' gives files a name of",
                    long.len()
                )),
                "{refused}"
            );
            assert!(refused.contains("left(name, 100)"), "{refused}");
            sink.abort(&first).await.unwrap();
        }
        // What just fits, and what is special in paths.
        let fits = [
            "x".repeat(250),
            "/".repeat(83),
            "..".to_owned(),
            "%2F\u{1}".to_owned(),
            String::new(),
        ];
        let staged: Vec<RecordBatch> = fits
            .iter()
            .zip(0..)
            .map(|(name, id)| named(name, id))
            .collect();
        let rows = arrow::compute::concat_batches(&staged[0].schema(), &staged).unwrap();
        let staged = stage(&sink, &first, rows).await;
        sink.commit(&first, staged).await.unwrap();
        assert_eq!(plain(&store).await.len(), fits.len());
        if store.local().is_some() {
            let context = session(&store, "").await;
            for (name, id) in fits.iter().zip(0..) {
                let sql = format!("SELECT id FROM t WHERE name = '{name}'");
                assert_eq!(query(&context, &sql).await, [id], "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_batch_that_was_committed_with_such_a_name_is_published_and_the_job_goes_on() {
    let (_folder, store) = local();
    let sink = open(&store, by_name()).await;
    let first = batch(0, None, 1);
    let staged = stage(&sink, &first, named("short", 7)).await;
    sink.commit(&first, staged).await.unwrap();
    // As a version before left it: committed under a name that cannot be, and not published.
    let long = "x".repeat(300);
    let manifest = manifest::name_of(&manifest::folder_of("job"), 0);
    let text = store.get(&manifest).await.unwrap().unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(
        text.matches("short").count(),
        2,
        "a name and a value: {text}"
    );
    let bytes = text.replace("short", &long).into_bytes();
    store
        .put(&manifest, bytes.into(), Durability::None)
        .await
        .unwrap();
    store.delete(&plain(&store).await).await.unwrap();

    let by_value = format!("SELECT id FROM t WHERE name = '{long}'");
    let context = session(&store, "").await;
    assert_eq!(
        query(&context, &by_value).await,
        [7],
        "read from where it is staged"
    );
    let again = open(&store, by_name()).await;
    let second = batch(1, Some(1), 2);
    let staged = stage(&again, &second, named("short", 8)).await;
    again.commit(&second, staged).await.unwrap();
    assert_eq!(ids(&store).await, [7, 8]);
    assert_eq!(query(&context, &by_value).await, [7]);
    let published = plain(&store).await;
    assert_eq!(published.len(), 2, "{published:?}");
    assert!(
        published
            .iter()
            .any(|name| name.starts_with("name=xxx") && name.contains('~'))
    );
    assert!(
        store.list(manifest::STAGED).await.unwrap().len() < 2,
        "staged files are not kept"
    );
}

/// DataFusion's own listing reads values from the names of folders, as Spark does.
#[tokio::test]
async fn folders_are_read_by_their_names_alone() {
    let (_folder, store) = local();
    let sink = open(&store, by_name()).await;
    let values = ["é", "日本", "a/b, c", "%41", "..", "\u{1}\n", "x=1", ""];
    let rows: Vec<RecordBatch> = values.iter().zip(0..).map(|(v, id)| named(v, id)).collect();
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    let first = batch(0, None, 1);
    let staged = stage(&sink, &first, rows).await;
    sink.commit(&first, staged).await.unwrap();
    let files = plain(&store).await;
    assert!(files.iter().any(|f| f.starts_with("name=é/")), "{files:?}");

    let listing = SessionContext::new();
    let create = format!(
        "CREATE EXTERNAL TABLE p (id BIGINT, name TEXT) STORED AS PARQUET PARTITIONED BY (name) \
         LOCATION '{}/'",
        store.url()
    );
    listing.sql(&create).await.unwrap();
    let ours = session(&store, "").await;
    for (value, id) in values.iter().zip(0..) {
        let sql = format!("SELECT id FROM t WHERE name = '{value}'");
        assert_eq!(query(&ours, &sql).await, [id], "{value:?}");
        // By their names alone, empty text and NULL are one folder, as in Hive.
        let named = match value.is_empty() {
            true => "__HIVE_DEFAULT_PARTITION__",
            false => value,
        };
        // DataFusion prunes by its own escapes, which leave '=' alone; this reads every folder.
        let sql = format!("SELECT id FROM p WHERE name || '' = '{named}'");
        assert_eq!(query(&listing, &sql).await, [id], "{value:?}");
    }
}

/// A version before had a folder `name=` for empty text.
#[tokio::test]
async fn a_job_goes_on_beside_a_folder_for_empty_text() {
    let (_folder, store) = local();
    let sink = open(&store, by_name()).await;
    let first = batch(0, None, 1);
    let staged = stage(&sink, &first, named("", 1)).await;
    sink.commit(&first, staged).await.unwrap();
    let now = plain(&store).await.remove(0);
    let before = now.replace("__HIVE_DEFAULT_PARTITION__", "");
    assert!(before.starts_with("name=/"), "{now}");
    let manifest = manifest::name_of(&manifest::folder_of("job"), 0);
    let text = store.get(&manifest).await.unwrap().unwrap();
    let text = String::from_utf8(text.to_vec())
        .unwrap()
        .replace(&now, &before);
    store
        .put(&manifest, text.into_bytes().into(), Durability::None)
        .await
        .unwrap();
    assert!(store.rename(&now, &before, Durability::None).await.unwrap());

    let sink = open(&store, by_name()).await;
    let second = batch(1, Some(1), 2);
    let staged = stage(&sink, &second, named("", 2)).await;
    sink.commit(&second, staged).await.unwrap();
    let mut files = plain(&store).await;
    files.sort();
    assert!(
        files[0].starts_with("name=/") && files[1].starts_with("name=__HIVE"),
        "{files:?}"
    );
    let context = session(&store, "").await;
    let empty = "SELECT id FROM t WHERE name = '' ORDER BY id";
    assert_eq!(query(&context, empty).await, [1, 2]);
    assert!(
        query(&context, "SELECT id FROM t WHERE name IS NULL")
            .await
            .is_empty()
    );
}
