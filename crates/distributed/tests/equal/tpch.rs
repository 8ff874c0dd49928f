//! TPC-H: its tables are topics of JSON.

use std::fmt::Display;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion_kafka::client::memory::{MemoryCluster, Record};
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

use super::Sessions;
use crate::engines::brokers;

/// 6000 line items.
const SCALE: f64 = 0.001;
const TEXT_BYTES: i32 = 1 << 20;

const NATION: &str = "n_nationkey BIGINT, n_name VARCHAR, n_regionkey BIGINT, n_comment VARCHAR";
const REGION: &str = "r_regionkey BIGINT, r_name VARCHAR, r_comment VARCHAR";
const PART: &str = "p_partkey BIGINT, p_name VARCHAR, p_mfgr VARCHAR, p_brand VARCHAR, p_type VARCHAR, p_size INT, \
     p_container VARCHAR, p_retailprice DECIMAL(15,2), p_comment VARCHAR";
const SUPPLIER: &str = "s_suppkey BIGINT, s_name VARCHAR, s_address VARCHAR, s_nationkey BIGINT, s_phone VARCHAR, \
     s_acctbal DECIMAL(15,2), s_comment VARCHAR";
const PARTSUPP: &str = "ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INT, ps_supplycost DECIMAL(15,2), \
     ps_comment VARCHAR";
const CUSTOMER: &str = "c_custkey BIGINT, c_name VARCHAR, c_address VARCHAR, c_nationkey BIGINT, c_phone VARCHAR, \
     c_acctbal DECIMAL(15,2), c_mktsegment VARCHAR, c_comment VARCHAR";
const ORDERS: &str = "o_orderkey BIGINT, o_custkey BIGINT, o_orderstatus VARCHAR, o_totalprice DECIMAL(15,2), \
     o_orderdate DATE, o_orderpriority VARCHAR, o_clerk VARCHAR, o_shippriority INT, o_comment VARCHAR";
const LINEITEM: &str = "l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INT, l_quantity DECIMAL(15,2), \
     l_extendedprice DECIMAL(15,2), l_discount DECIMAL(15,2), l_tax DECIMAL(15,2), l_returnflag VARCHAR, \
     l_linestatus VARCHAR, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct VARCHAR, \
     l_shipmode VARCHAR, l_comment VARCHAR";

/// Rows of the generator, `1|a|2.50|`, as records of JSON in several partitions.
fn fill<T: Display>(
    cluster: &MemoryCluster,
    table: &str,
    partitions: i32,
    columns: &str,
    rows: impl IntoIterator<Item = T>,
) {
    cluster.create_topic(table, partitions).unwrap();
    // The comma in DECIMAL(15,2) has no blank behind it.
    let columns: Vec<(&str, &str)> = columns
        .split(", ")
        .map(|column| column.trim().split_once(' ').unwrap())
        .collect();
    for (n, row) in (0_i32..).zip(rows) {
        let row = row.to_string();
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').collect();
        assert_eq!(cells.len(), columns.len(), "{row}");
        let fields = columns.iter().zip(cells).map(|((name, kind), cell)| {
            let value = match *kind {
                "VARCHAR" | "DATE" => serde_json::Value::from(cell).to_string(),
                _ => cell.to_owned(),
            };
            format!("\"{name}\":{value}")
        });
        let value = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        let partition = n % partitions;
        cluster
            .append(table, partition, Record::new(value))
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_is_that_of_one_machine() {
    let cluster = brokers();
    let words = Distributions::static_default();
    let text = TextPool::new(TEXT_BYTES, words);
    let nations = NationGenerator::new_with_distributions_and_text_pool(words, &text);
    fill(&cluster, "nation", 2, NATION, nations.iter());
    let regions = RegionGenerator::new_with_distributions_and_text_pool(words, &text);
    fill(&cluster, "region", 2, REGION, regions.iter());
    macro_rules! fill {
        ($table:literal, $partitions:literal, $columns:ident, $generator:ident) => {
            let rows = $generator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &text);
            fill(&cluster, $table, $partitions, $columns, rows.iter());
        };
    }
    fill!("part", 3, PART, PartGenerator);
    fill!("supplier", 2, SUPPLIER, SupplierGenerator);
    fill!("customer", 3, CUSTOMER, CustomerGenerator);
    fill!("orders", 5, ORDERS, OrderGenerator);
    fill!("lineitem", 8, LINEITEM, LineItemGenerator);
    let supplies = PartSuppGenerator::new_with_text_pool(SCALE, 1, 1, &text);
    fill(&cluster, "partsupp", 4, PARTSUPP, supplies.iter());

    let sessions = Sessions::over(cluster).await;
    for (table, columns) in [
        ("nation", NATION),
        ("region", REGION),
        ("part", PART),
        ("supplier", SUPPLIER),
        ("partsupp", PARTSUPP),
        ("customer", CUSTOMER),
        ("orders", ORDERS),
        ("lineitem", LINEITEM),
    ] {
        let declared = format!(
            "CREATE EXTERNAL TABLE {table} ({columns}) STORED AS KAFKA LOCATION '{table}' \
             OPTIONS ('value.format' 'json')"
        );
        sessions.set_up(&declared).await;
    }
    let queries = include_str!("tpch.sql").split("-- Q").skip(1);
    let queries = queries.zip(1..).map(|(query, number)| {
        let (title, sql) = query.split_once('\n').unwrap();
        assert_eq!(title, number.to_string());
        sql.trim().trim_end_matches(';')
    });
    let queries: Vec<&str> = queries.collect();
    assert_eq!(queries.len(), 22);
    for (number, rows) in (1..).zip(sessions.compare(&queries).await) {
        let mut columns = rows.iter().flat_map(RecordBatch::columns);
        assert!(
            columns.any(|column| column.null_count() < column.len()),
            "Q{number} has no rows"
        );
    }
}
