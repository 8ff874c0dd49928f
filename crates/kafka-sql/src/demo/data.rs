//! The demo's records: a day of a small shop, the same on every run.

use std::collections::HashMap;
use std::fmt::Write as _;

use datafusion_kafka::range::KeyPartitioner;

/// 2026-01-14T00:00:00Z, in ms since the epoch.
pub(super) const DAY_START_MS: i64 = 1_768_348_800_000;
const DAY_MS: i64 = 86_400_000;

/// Orders in the topic `orders`.
pub(super) const ORDERS: u32 = 1_000;
/// Customers that ever existed.
pub(super) const CUSTOMERS: u32 = 40;

/// The topics.
pub(super) const TOPICS: [&str; 4] = ["orders", "customers", "payments", "changes"];
/// Partitions of each topic: what the embedded broker gives a new one.
pub(super) const PARTITIONS: usize = 4;

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) topic: &'static str,
    pub(super) partition: i32,
    pub(super) timestamp_ms: i64,
    pub(super) key: String,
    /// `None` is a tombstone.
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

/// All records, in the order in which they are produced.
pub(super) fn records() -> Vec<Record> {
    let mut random = Random(0x6b61_666b_6173_716c);
    let mut records = customers(&mut random);
    let mut payments = Vec::new();
    for number in 0..ORDERS {
        let (order, payment) = order(number, &mut random);
        records.push(order);
        payments.extend(payment);
    }
    // Payments arrive in the order of their own timestamps, whatever the order they pay.
    payments.sort_by_key(|p: &Record| p.timestamp_ms);
    records.extend(payments);
    let changes = changes(records.iter().filter(|r| r.topic == "customers"));
    records.extend(changes);
    records
}

/// The customers' changes as Debezium writes them: envelopes, and a tombstone after each delete.
fn changes<'a>(customers: impl Iterator<Item = &'a Record>) -> Vec<Record> {
    let mut rows: HashMap<&str, &str> = HashMap::new();
    let mut records = Vec::new();
    for (lsn, customer) in customers.enumerate() {
        let before = rows.remove(customer.key.as_str());
        let after = customer.value.as_deref();
        let op = match (before, after) {
            (None, _) => "c",
            (Some(_), Some(_)) => "u",
            (Some(_), None) => "d",
        };
        let mut push = |value| {
            records.push(Record {
                topic: "changes",
                key: format!(r#"{{"customer":"{}"}}"#, customer.key),
                value,
                ..customer.clone()
            });
        };
        push(Some(format!(
            r#"{{"before":{},"after":{},"source":{{"connector":"postgresql","db":"shop","table":"customers","lsn":{}}},"op":"{op}","ts_ms":{}}}"#,
            before.unwrap_or("null"),
            after.unwrap_or("null"),
            4_096 + lsn * 64,
            customer.timestamp_ms
        )));
        match after {
            Some(row) => {
                rows.insert(&customer.key, row);
            }
            None => push(None),
        }
    }
    records
}

const FIRST: [&str; 10] = [
    "Ada", "Björn", "Chloé", "Dmitri", "Elif", "Farid", "Grace", "Hana", "Iñigo", "Jun",
];
const LAST: [&str; 8] = [
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Volkov",
    "Demir",
    "Haddad",
    "Nakamura",
    "Schmidt",
];
const COUNTRIES: [&str; 6] = ["DE", "FR", "ES", "SE", "JP", "TR"];
const ITEMS: [(&str, u32); 12] = [
    ("espresso machine", 24_900),
    ("coffee grinder", 8_950),
    ("tea kettle", 3_490),
    ("teapot", 2_790),
    ("mug", 890),
    ("coffee beans 1 kg", 1_990),
    ("green tea 100 g", 1_250),
    ("milk frother", 4_590),
    ("paper filters", 390),
    ("hand mill", 5_490),
    ("scale", 2_990),
    ("gift card", 2_500),
];
const SOURCES: [&str; 3] = ["web", "app", "store"];
const METHODS: [&str; 3] = ["card", "transfer", "wallet"];

fn customer_key(customer: u32) -> String {
    format!("c-{customer:03}")
}

/// Where a Java client puts a key.
fn java_partition(key: &str) -> i32 {
    let partition = KeyPartitioner::Murmur2.partition(key.as_bytes(), PARTITIONS as u32);
    partition.unwrap_or_default()
}

/// A changelog: every customer once, some changed, some deleted by a tombstone.
fn customers(random: &mut Random) -> Vec<Record> {
    let mut records = Vec::new();
    let mut push = |customer: u32, minute: i64, value: Option<String>| {
        records.push(Record {
            topic: "customers",
            partition: java_partition(&customer_key(customer)),
            timestamp_ms: DAY_START_MS + minute * 60_000,
            key: customer_key(customer),
            value,
            headers: Vec::new(),
        });
    };
    let describe = |customer: u32, tier: &str| {
        let first = FIRST[customer as usize % FIRST.len()];
        let last = LAST[(customer as usize * 3 + customer as usize / 8) % LAST.len()];
        let country = COUNTRIES[customer as usize * 5 % COUNTRIES.len()];
        format!(
            r#"{{"customer":"{}","name":"{first} {last}","country":"{country}","tier":"{tier}"}}"#,
            customer_key(customer)
        )
    };
    for customer in 1..=CUSTOMERS {
        push(
            customer,
            i64::from(customer),
            Some(describe(customer, "basic")),
        );
    }
    for step in 0..10 {
        let customer = 1 + random.below(CUSTOMERS);
        push(customer, 600 + step * 20, Some(describe(customer, "gold")));
    }
    for (step, customer) in [7, 19, 23, 31, 38].into_iter().enumerate() {
        push(customer, 1_000 + step as i64 * 45, None);
    }
    records
}

/// An order, and its payment if it was paid on the same day.
fn order(number: u32, random: &mut Random) -> (Record, Option<Record>) {
    let customer = 1 + random.below(CUSTOMERS);
    let (item, cents) = ITEMS[random.below(ITEMS.len() as u32) as usize];
    let quantity = 1 + random.below(3);
    let total = cents * quantity;
    let id = format!("o-{:05}", number + 1);
    let source = SOURCES[random.below(3) as usize];
    // Orders come evenly over the day; one in twenty was made on a phone without a network and
    // carries the time of the click, up to an hour before.
    let mut timestamp_ms = DAY_START_MS
        + i64::from(number) * (DAY_MS / i64::from(ORDERS))
        + i64::from(random.below(60_000));
    if random.below(20) == 0 {
        timestamp_ms = (timestamp_ms - i64::from(random.below(3_600_000))).max(DAY_START_MS);
    }
    let status = match random.below(10) {
        0 => "cancelled",
        1..=3 => "new",
        _ => "shipped",
    };
    let mut value = String::new();
    // Writing to a `String` cannot fail.
    let _ = write!(
        value,
        r#"{{"order":"{id}","customer":"{}","item":"{item}","quantity":{quantity},"amount":{}.{:02},"currency":"EUR","status":"{status}"}}"#,
        customer_key(customer),
        total / 100,
        total % 100
    );
    let mut headers = vec![
        (
            "trace",
            Some(format!("{:016x}", random.next()).into_bytes()),
        ),
        ("source", Some(source.as_bytes().to_vec())),
    ];
    if source == "store" {
        // A binary header: the till's number, not text.
        headers.push(("till", Some(vec![0xff, (number % 7) as u8])));
    }
    let record = Record {
        topic: "orders",
        partition: (customer % 4) as i32,
        timestamp_ms,
        key: customer_key(customer),
        value: Some(value),
        headers,
    };
    let delay = 30_000 + i64::from(random.below(7_200_000));
    let method = METHODS[random.below(3) as usize];
    let paid = status != "cancelled"
        && random.below(12) != 0
        && timestamp_ms + delay < DAY_START_MS + DAY_MS;
    let payment = paid.then(|| Record {
        topic: "payments",
        partition: (number % 4) as i32,
        timestamp_ms: timestamp_ms + delay,
        key: id.clone(),
        value: Some(format!(
            r#"{{"order":"{id}","amount":{}.{:02},"method":"{method}"}}"#,
            total / 100,
            total % 100
        )),
        headers: Vec::new(),
    });
    (record, payment)
}

/// Numbers that look random and are the same on every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is small enough that the bias does not show.
    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str) -> Vec<Record> {
        records().into_iter().filter(|r| r.topic == topic).collect()
    }

    #[test]
    fn the_data_is_the_same_every_time() {
        assert_eq!(records(), records());
    }

    #[test]
    fn orders_are_json_within_the_day_on_all_partitions() {
        let orders = of("orders");
        assert_eq!(orders.len(), ORDERS as usize);
        for order in &orders {
            let value: serde_json::Value =
                serde_json::from_str(order.value.as_ref().unwrap()).unwrap();
            assert_eq!(value["customer"], order.key);
            assert!(value["amount"].as_f64().unwrap() > 0.0);
            assert!((DAY_START_MS..DAY_START_MS + DAY_MS + 60_000).contains(&order.timestamp_ms));
        }
        for partition in 0..4 {
            assert!(orders.iter().filter(|o| o.partition == partition).count() > 100);
        }
        let late = orders
            .windows(2)
            .filter(|w| w[1].timestamp_ms < w[0].timestamp_ms - 60_000)
            .count();
        assert!(late > 10, "{late} late orders");
    }

    #[test]
    fn customers_end_with_tombstones() {
        let customers = of("customers");
        assert_eq!(customers.iter().filter(|c| c.value.is_none()).count(), 5);
        assert_eq!(customers.len(), 55);
    }

    #[test]
    fn every_payment_pays_an_order() {
        let orders: std::collections::HashSet<String> = of("orders")
            .iter()
            .map(|o| serde_json::from_str::<serde_json::Value>(o.value.as_ref().unwrap()).unwrap()["order"].as_str().unwrap().to_owned())
            .collect();
        let payments = of("payments");
        assert!(
            (600..ORDERS as usize).contains(&payments.len()),
            "{}",
            payments.len()
        );
        assert!(payments.iter().all(|p| orders.contains(&p.key)));
    }

    #[test]
    fn changes_end_in_what_customers_are() {
        let mut rows = HashMap::new();
        for change in of("changes") {
            let Some(value) = &change.value else {
                assert!(rows.remove(&change.key).is_none(), "deleted before");
                continue;
            };
            let envelope: serde_json::Value = serde_json::from_str(value).unwrap();
            let before = rows.remove(&change.key).unwrap_or(serde_json::Value::Null);
            assert_eq!(envelope["before"], before);
            if !envelope["after"].is_null() {
                rows.insert(change.key, envelope["after"].clone());
            }
        }
        assert_eq!(rows.len(), CUSTOMERS as usize - 5);
        assert_eq!(of("changes").len(), 60);
    }

    #[test]
    fn partitions_exist() {
        for record in records() {
            assert!(TOPICS.contains(&record.topic));
            let partition = usize::try_from(record.partition).unwrap();
            assert!(partition < PARTITIONS);
        }
    }
}
