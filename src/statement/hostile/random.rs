//! Random statements: from a grammar, and from the examples with changed words.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Random numbers that are the same for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// How often to repeat something: mostly a few times, sometimes very often.
    fn times(&mut self) -> usize {
        match self.below(8) {
            0 => 1 + self.below(4000),
            1 => 1 + self.below(300),
            _ => 1 + self.below(12),
        }
    }
}

const TABLES: [&str; 7] = [
    "orders",
    "customers",
    "payments",
    "kafka('orders')",
    "kafka('orders', '0=3:7')",
    "kafka_offsets('orders')",
    "kafka('payments', 'start:end', 'value.format=json')",
];

const COLUMNS: [&str; 11] = [
    "offset",
    "partition",
    "timestamp",
    "key",
    "value",
    "headers",
    "topic",
    "a.offset",
    "b.value",
    "x",
    "\"no such\"",
];

const LITERALS: [&str; 19] = [
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e308",
    "0.1",
    "NULL",
    "TRUE",
    "''",
    "'text'",
    "'2026-01-14'",
    "'{\"a\": [1, {\"b\": null}]}'",
    "'\u{1b}[2J\u{202e}'",
    "X'ff'",
    "INTERVAL '1 day'",
    "DATE '9999-12-31'",
    "TIMESTAMP '0001-01-01T00:00:00Z'",
];

const OPERATORS: [&str; 27] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "AND",
    "OR",
    "||",
    "->",
    "->>",
    "~",
    "!~*",
    "LIKE",
    "NOT LIKE",
    "ILIKE",
    "IS DISTINCT FROM",
    "&",
    "|",
    "^",
    "<<",
    ">>",
];

const TYPES: [&str; 14] = [
    "INT",
    "BIGINT",
    "VARCHAR",
    "BYTEA",
    "BOOLEAN",
    "DOUBLE",
    "DECIMAL(38, 10)",
    "DECIMAL(76, 76)",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP(3) WITH TIME ZONE",
    "INTERVAL",
    "INT[]",
];

/// With the least and the greatest number of arguments to try.
const FUNCTIONS: [(&str, usize, usize); 26] = [
    ("abs", 1, 1),
    ("coalesce", 1, 3),
    ("nullif", 2, 2),
    ("concat", 1, 3),
    ("substr", 2, 3),
    ("octet_length", 1, 1),
    ("bit_length", 1, 1),
    ("upper", 1, 1),
    ("replace", 3, 3),
    ("split_part", 3, 3),
    ("regexp_match", 2, 2),
    ("date_trunc", 2, 2),
    ("date_bin", 2, 3),
    ("date_part", 2, 2),
    ("to_timestamp", 1, 1),
    ("now", 0, 0),
    ("array_length", 1, 1),
    ("make_array", 0, 3),
    ("named_struct", 2, 4),
    ("header", 2, 2),
    ("json_get", 2, 3),
    ("json_as_text", 2, 2),
    ("round", 1, 2),
    ("encode", 2, 2),
    ("sha256", 1, 1),
    ("arrow_typeof", 1, 1),
];

const AGGREGATES: [&str; 9] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "array_agg",
    "count(DISTINCT",
    "stddev",
    "median",
];

/// An expression with at most `levels` levels.
fn expression(dice: &mut Dice, levels: usize) -> String {
    if levels == 0 || dice.one_in(5) {
        return match dice.below(3) {
            0 => dice.pick(&LITERALS).to_owned(),
            _ => dice.pick(&COLUMNS).to_owned(),
        };
    }
    let a = expression(dice, levels - 1);
    match dice.below(18) {
        0..6 => {
            let b = expression(dice, levels - 1);
            format!("{a} {} {b}", dice.pick(&OPERATORS))
        }
        6 => format!("({a})"),
        7 => format!("{} {a}", dice.pick(&["NOT", "-", "+", "~"])),
        8 => {
            let cast = dice.pick(&["CAST", "TRY_CAST"]);
            format!("{cast}({a} AS {})", dice.pick(&TYPES))
        }
        9 => format!("{a}::{}", dice.pick(&TYPES)),
        10 => {
            let (b, c) = (expression(dice, levels - 1), expression(dice, levels - 1));
            format!("CASE WHEN {a} THEN {b} ELSE {c} END")
        }
        11 => format!(
            "{a} {}",
            dice.pick(&["IS NULL", "IS NOT NULL", "IS TRUE", "IS UNKNOWN"])
        ),
        12 => {
            let b = expression(dice, levels - 1);
            format!("{a} IN ({b}, {})", dice.pick(&LITERALS))
        }
        13 => format!(
            "{a} BETWEEN {} AND {}",
            dice.pick(&LITERALS),
            dice.pick(&LITERALS)
        ),
        14 => format!(
            "({a})[{}]",
            dice.pick(&["1", "-1", "'key'", "1:2", "offset"])
        ),
        15 => {
            let inner = query(dice, levels - 1);
            match dice.below(3) {
                0 => format!("EXISTS ({inner})"),
                1 => format!("{a} IN ({inner})"),
                _ => format!("({inner})"),
            }
        }
        16 => {
            let aggregate = dice.pick(&AGGREGATES);
            let close = if aggregate.contains('(') { "" } else { "(" };
            let over = dice.pick(&[
                "",
                "",
                " OVER ()",
                " OVER (PARTITION BY partition ORDER BY offset)",
            ]);
            format!("{aggregate}{close} {a}){over}")
        }
        _ => {
            let (name, least, most) = FUNCTIONS[dice.below(FUNCTIONS.len())];
            let arguments = least + dice.below(most - least + 1);
            let arguments: Vec<String> = (0..arguments)
                .map(|_| expression(dice, levels - 1))
                .collect();
            format!("{name}({})", arguments.join(", "))
        }
    }
}

fn relation(dice: &mut Dice, levels: usize) -> String {
    match dice.below(6) {
        0 if levels > 0 => format!("({})", query(dice, levels - 1)),
        _ => dice.pick(&TABLES).to_owned(),
    }
}

/// A query with at most `levels` levels.
fn query(dice: &mut Dice, levels: usize) -> String {
    let mut text = String::new();
    if dice.one_in(10) && levels > 0 {
        text += &format!("WITH w AS ({}) ", query(dice, levels - 1));
    }
    let items: Vec<String> = (0..1 + dice.below(3))
        .map(|_| match dice.below(4) {
            0 => "*".to_owned(),
            1 => format!("{} AS x", expression(dice, levels)),
            _ => expression(dice, levels),
        })
        .collect();
    let distinct = if dice.one_in(12) { "DISTINCT " } else { "" };
    text += &format!("SELECT {distinct}{}", items.join(", "));
    text += &format!(" FROM {} AS a", relation(dice, levels));
    if dice.one_in(4) {
        let join = dice.pick(&[
            "JOIN",
            "LEFT JOIN",
            "FULL JOIN",
            "CROSS JOIN",
            "LEFT SEMI JOIN",
        ]);
        text += &format!(" {join} {} AS b", relation(dice, levels));
        if join != "CROSS JOIN" {
            text += &format!(" ON {}", expression(dice, 2));
        }
    }
    if dice.one_in(2) {
        text += &format!(" WHERE {}", expression(dice, levels));
    }
    if dice.one_in(6) {
        text += &format!(" GROUP BY {}", expression(dice, 1));
        if dice.one_in(2) {
            text += &format!(" HAVING {}", expression(dice, 2));
        }
    }
    if dice.one_in(8) && levels > 0 {
        let set = dice.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
        text += &format!(" {set} {}", query(dice, levels - 1));
    }
    if dice.one_in(4) {
        text += &format!(" ORDER BY {} DESC", expression(dice, 1));
    }
    if dice.one_in(4) {
        text += dice.pick(&[" LIMIT 3", " LIMIT 0", " LIMIT 1 OFFSET 9", " LIMIT 1 + 1"]);
    }
    text
}

/// Something nested or chained, `times` times.
pub(super) fn repeated(what: usize, times: usize) -> String {
    let joined = |word: &str, by: &str| vec![word; times].join(by);
    let nested = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let selected = |expression: String| format!("SELECT {expression} FROM orders AS a");
    let where_ = |expression: String| format!("SELECT 1 FROM orders AS a WHERE {expression}");
    match what % REPEATED {
        0 => where_(joined("offset = 1", " OR ")),
        1 => where_(joined("offset > 1", " AND ")),
        2 => selected(joined("offset", " + ")),
        3 => selected(joined("key", " || ")),
        4 => selected(format!("key -> {}", joined("'a'", " -> "))),
        5 => selected(format!("value ->> {}", joined("1", " ->> "))),
        6 => selected(nested("(", "offset", ")")),
        7 => selected(nested("CAST(", "offset", " AS BIGINT)")),
        8 => selected(nested("abs(", "offset", ")")),
        9 => selected(nested("CASE WHEN TRUE THEN ", "1", " END")),
        10 => selected(nested("CASE 1 WHEN 1 THEN 1 ELSE ", "1", " END")),
        11 => selected(nested("(SELECT ", "1", ")")),
        12 => nested("SELECT * FROM (", "SELECT 1", ") AS q"),
        13 => joined("SELECT 1", " UNION ALL "),
        14 => joined("SELECT offset FROM orders", " UNION "),
        15 => nested("WITH w AS (", "SELECT 1 AS x", ") SELECT * FROM w"),
        16 => selected(format!("offset{}", "::BIGINT".repeat(times))),
        17 => selected(format!("headers{}", "[1]".repeat(times))),
        18 => where_(format!("{} TRUE", "NOT ".repeat(times))),
        19 => selected(format!("{} 1", "- ".repeat(times))),
        20 => selected(format!("{} '1 day'", "INTERVAL ".repeat(times))),
        21 => selected(nested("CAST(", "offset x y", ")")),
        22 => selected(nested("CAST(", "'1", " AS INT)")),
        23 => selected(nested("[", "1", "]")),
        24 => selected(nested("ARRAY[", "1", "]")),
        25 => selected(nested("named_struct('a', ", "1", ")")),
        26 => where_(nested("offset IN (", "1", ")")),
        27 => where_(nested(
            "offset IN (SELECT offset FROM orders WHERE ",
            "TRUE",
            ")",
        )),
        28 => where_(nested(
            "EXISTS (SELECT 1 FROM orders AS b WHERE ",
            "TRUE",
            ")",
        )),
        29 => format!("SELECT 1 FROM {}", joined("orders", ", ")),
        30 => format!(
            "SELECT 1 FROM orders{}",
            " CROSS JOIN payments".repeat(times)
        ),
        31 => format!(
            "SELECT 1 FROM {}orders{}",
            "(".repeat(times),
            ")".repeat(times)
        ),
        32 => definition(&nested("STRUCT<a ", "INT", ">")),
        33 => definition(&nested("STRUCT<b INT, a ", "INT", ">")),
        34 => definition(&nested("MAP<VARCHAR, ", "INT", ">")),
        35 => definition(&nested("ARRAY<", "INT", ">")),
        36 => definition(&format!("INT{}", "[]".repeat(times))),
        37 => selected(nested("CAST(1 AS ARRAY<", "INT", ">)")),
        38 => where_(format!("offset IN ({})", joined("1", ", "))),
        39 => selected(joined("offset", ", ")),
        40 => format!("VALUES {}", joined("(1, 'a')", ", ")),
        41 => where_(joined("offset IS NULL", " IS NOT DISTINCT FROM ")),
        42 => where_(format!("offset{}", " IS NULL".repeat(times))),
        43 => selected(format!("a{}", ".b".repeat(times))),
        44 => selected(joined("offset", " AT TIME ZONE ")),
        45 => selected(joined("where", " + ")),
        46 => chained(times, "SELECT x + 1 AS x FROM {}", ""),
        47 => chained(times, "SELECT l.x FROM {} AS l", " CROSS JOIN {} AS r"),
        48 => chained(times, "SELECT x FROM {} ORDER BY x LIMIT 5", ""),
        49 => format!("{}SELECT 1", "EXPLAIN ".repeat(times)),
        50 => format!("SELECT {}", "'".repeat(times)),
        51 => format!("SELECT 1 {}", "/*".repeat(times)),
        _ => where_(nested("abs(offset) + (", "1", ") * 2")),
    }
}

/// The number of kinds of [`repeated`].
pub(super) const REPEATED: usize = 53;

fn definition(of: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE t (a {of}) STORED AS KAFKA LOCATION 'orders' OPTIONS ('value.format' 'json')"
    )
}

/// Queries in WITH that each read the previous one, once or twice.
fn chained(times: usize, select: &str, again: &str) -> String {
    let mut text = "WITH w0 AS (SELECT 1 AS x)".to_owned();
    for i in 1..=times {
        let before = format!("w{}", i - 1);
        let select = format!("{select}{again}").replace("{}", &before);
        text += &format!(", w{i} AS ({select})");
    }
    format!("{text} SELECT count(*) FROM w{times}")
}

/// A statement from the grammar.
pub(super) fn made(dice: &mut Dice) -> String {
    let explain = dice.pick(&["", "", "", "EXPLAIN ", "EXPLAIN VERBOSE "]);
    if dice.one_in(6) {
        let what = dice.below(REPEATED);
        let times = dice.times();
        return format!("{explain}{}", repeated(what, times));
    }
    let levels = 1 + dice.below(5);
    format!("{explain}{}", query(dice, levels))
}

/// A text with some words removed, doubled, swapped, replaced or nested.
pub(super) fn changed(dice: &mut Dice, text: &str) -> String {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
    let mut words: Vec<String> = tokens.unwrap().iter().map(Token::to_string).collect();
    for _ in 0..1 + dice.below(4) {
        let (from, to) = (dice.below(words.len()), dice.below(words.len()));
        let (from, to) = (from.min(to), from.max(to));
        match dice.below(7) {
            0 => drop(words.remove(from)),
            1 => words.insert(to, words[from].clone()),
            2 => words.swap(from, to),
            3 => {
                let word = dice.pick(&LITERALS).to_owned();
                words[from] = word;
            }
            4 => words[from] = expression(dice, 2),
            5 => {
                let span = words[from..to.min(from + 6) + 1].concat();
                let times = dice.times();
                words.insert(from, format!(" {span} ").repeat(times));
            }
            _ => {
                let (open, close) = [
                    ("(", ")"),
                    (" CAST(", " AS VARCHAR)"),
                    (" abs(", ")"),
                    ("[", "]"),
                    (" CASE WHEN ", " THEN 1 END"),
                    (" (SELECT ", ")"),
                    (" STRUCT<a ", ">"),
                ][dice.below(7)];
                let times = dice.times();
                words.insert(to + 1, close.repeat(times));
                words.insert(from, open.repeat(times));
            }
        }
        if words.is_empty() {
            break;
        }
    }
    words.concat()
}
