//! The functions on a record's headers: `header(headers, name)` returns a value, and
//! `has_header(headers, name, value)` says whether any header is of this name and value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BinaryViewBuilder, BooleanArray,
    ListArray, StringArray,
};
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::client::headers_type;

/// Both functions.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    let has_header = HasHeader {
        signature: Signature::any(3, Volatility::Immutable),
    };
    [function(), ScalarUDF::new_from_impl(has_header)]
}

/// `header`.
pub(crate) fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(HeaderOf {
        signature: Signature::any(2, Volatility::Immutable),
    })
}

/// Returns the last header with the name, like Kafka's `lastHeader`, as BinaryView. It is NULL if there is no
/// such header or its value is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HeaderOf {
    signature: Signature,
}

impl ScalarUDFImpl for HeaderOf {
    fn name(&self) -> &str {
        "header"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [headers, name] = types else {
            return plan_err!("header takes headers and a name");
        };
        check(self.name(), headers, name)?;
        Ok(DataType::BinaryView)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [headers, name] = take_function_args(self.name(), args.args)?;
        let headers = headers.into_array(rows)?;
        let Some(headers) = headers.as_list_opt::<i32>() else {
            return exec_err!("header: the first argument is the column 'headers'");
        };
        let values: ArrayRef = match name {
            ColumnarValue::Scalar(
                ScalarValue::Utf8(name)
                | ScalarValue::Utf8View(name)
                | ScalarValue::LargeUtf8(name),
            ) => Arc::new(values(headers, |_| name.as_deref())),
            name => {
                let names = name.cast_to(&DataType::Utf8View, None)?.into_array(rows)?;
                let names = names.as_string_view();
                Arc::new(values(headers, |row| {
                    names.is_valid(row).then(|| names.value(row))
                }))
            }
        };
        Ok(ColumnarValue::Array(values))
    }
}

/// Checks the types of the first two arguments.
fn check(function: &str, headers: &DataType, name: &DataType) -> Result<()> {
    if !headers.equals_datatype(&headers_type()) {
        return plan_err!(
            "{function}: the first argument is the column 'headers', found {headers}"
        );
    }
    if !name.is_string() {
        return plan_err!("{function}: the second argument is a name, found {name}");
    }
    Ok(())
}

/// Says whether there is a header of this name and value among all of a record.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HasHeader {
    signature: Signature,
}

impl ScalarUDFImpl for HasHeader {
    fn name(&self) -> &str {
        "has_header"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [headers, name, value] = types else {
            return plan_err!("has_header takes headers, a name and a value");
        };
        check(self.name(), headers, name)?;
        if !(value.is_string() || value.is_binary()) {
            return plan_err!("has_header: the third argument is a value, found {value}");
        }
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [headers, name, value] = take_function_args(self.name(), args.args)?;
        let headers = headers.into_array(rows)?;
        let Some(headers) = headers.as_list_opt::<i32>() else {
            return exec_err!("has_header: the first argument is the column 'headers'");
        };
        let names = name.cast_to(&DataType::Utf8View, None)?.into_array(rows)?;
        let wanted = value
            .cast_to(&DataType::BinaryView, None)?
            .into_array(rows)?;
        let (names, wanted) = (names.as_string_view(), wanted.as_binary_view());
        let (keys, values) = entries(headers);
        let offsets = headers.value_offsets();
        let has = |row: usize| {
            if headers.is_null(row) || names.is_null(row) || wanted.is_null(row) {
                return None;
            }
            let (name, wanted) = (names.value(row), wanted.value(row));
            let mut entries = offsets[row] as usize..offsets[row + 1] as usize;
            Some(entries.any(|entry| {
                keys.value(entry) == name && values.is_valid(entry) && values.value(entry) == wanted
            }))
        };
        let found: BooleanArray = (0..headers.len()).map(has).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// The names and values of all headers.
fn entries(headers: &ListArray) -> (&StringArray, &BinaryArray) {
    let all = headers.values().as_struct();
    (all.column(0).as_string(), all.column(1).as_binary())
}

fn values<'a>(headers: &ListArray, name: impl Fn(usize) -> Option<&'a str>) -> BinaryViewArray {
    let (keys, values) = entries(headers);
    let mut found = BinaryViewBuilder::with_capacity(headers.len());
    let offsets = headers.value_offsets();
    for row in 0..headers.len() {
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        let entry = name(row).and_then(|name| {
            let mut entries = entries.filter(|_| headers.is_valid(row)).rev();
            entries.find(|entry| keys.value(*entry) == name)
        });
        let value = entry.filter(|entry| values.is_valid(*entry));
        found.append_option(value.map(|entry| values.value(entry)));
    }
    found.finish()
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use crate::client::memory::{MemoryCluster, Record};
    use crate::session::KafkaSessionBuilder;
    use crate::table::KafkaTable;

    #[tokio::test]
    async fn the_last_header_of_a_name_is_taken() {
        let cluster = MemoryCluster::builder().build();
        cluster.create_topic("t", 1).unwrap();
        for record in [
            Record::new("v")
                .with_header("a", Some(b"1".as_slice()))
                .with_header("b", None::<&[u8]>)
                .with_header("a", Some(b"2".as_slice())),
            Record::new("v"),
            Record::new("v").with_header("b", Some(b"x".as_slice())),
        ] {
            cluster.append("t", 0, record).unwrap();
        }
        let context = KafkaSessionBuilder::new().build().unwrap();
        let table = KafkaTable::builder_with_client(std::sync::Arc::new(cluster.client()));
        let table = table.topic("t").build_lazy().unwrap();
        context
            .register_table("t", std::sync::Arc::new(table))
            .unwrap();
        let sql = "SELECT kafka_text(header(headers, 'a')) AS a, kafka_text(header(headers, 'b')) AS b, \
                   has_header(headers, 'a', '1') AS c, has_header(headers, 'b', X'78') AS d \
                   FROM t ORDER BY \"offset\"";
        let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
        let shown = pretty_format_batches(&rows).unwrap().to_string();
        let lines: Vec<&str> = shown.lines().skip(3).collect();
        assert_eq!(
            lines[..3],
            [
                "| 2 |   | true  | false |",
                "|   |   | false | false |",
                "|   | x | false | true  |"
            ],
            "{shown}"
        );

        for (wrong, expected) in [
            (
                "header(value, 'a')",
                "the first argument is the column 'headers'",
            ),
            ("header(headers, 1)", "the second argument is a name"),
            (
                "has_header(headers, 'a', 1)",
                "the third argument is a value",
            ),
        ] {
            let error = context.sql(&format!("SELECT {wrong} FROM t")).await;
            assert!(error.unwrap_err().to_string().contains(expected), "{wrong}");
        }
    }
}
