//! The functions `avro_from(bytes, schema)` and `protobuf_from(bytes, file, message)`, which turn a payload's
//! fields into a struct.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use kafka_arrow::BoundedCache;

use crate::decode::{Format, PayloadDecoder, Wanted, preview};
use crate::error::External as _;
use crate::formats::payload_decoder;
use crate::policy::Policy;

/// How many decoders a function keeps. A statement has few schemas, but requests one for each batch.
const KEPT: usize = 16;

/// The functions.
pub(crate) fn functions(policy: &Policy) -> [ScalarUDF; 2] {
    let function = |format, name, usage, counts: &[usize]| {
        let counts = counts.iter().map(|count| TypeSignature::Any(*count));
        ScalarUDF::new_from_impl(FromPayload {
            format,
            name,
            usage,
            signature: Signature::one_of(counts.collect(), Volatility::Stable),
            kept: Mutex::new(BoundedCache::new(KEPT)),
            policy: policy.clone(),
        })
    };
    [
        function(
            Format::Avro,
            "avro_from",
            "avro_from(bytes, 'schema as JSON, or its file')",
            &[2],
        ),
        function(
            Format::Protobuf,
            "protobuf_from",
            "protobuf_from(bytes, 'file.proto, or a descriptor set' [, 'message'])",
            &[2, 3],
        ),
    ]
}

/// Returns a struct of the schema's fields; NULL for NULL. A payload that does not decode is an error.
#[derive(Debug)]
struct FromPayload {
    format: Format,
    name: &'static str,
    usage: &'static str,
    signature: Signature,
    /// Decoders by their arguments.
    kept: Mutex<BoundedCache<Vec<String>, Arc<dyn PayloadDecoder>>>,
    /// What the text of the session may read.
    policy: Policy,
}

impl PartialEq for FromPayload {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FromPayload {}

impl Hash for FromPayload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for FromPayload {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{}: the type depends on the schema", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let bytes = args.arg_fields.first().map(|field| field.data_type());
        match bytes {
            Some(bytes) if bytes.is_binary() || bytes.is_null() => {}
            Some(other) => {
                return plan_err!(
                    "{}: the first argument is bytes, found {other}; expected {}",
                    self.name,
                    self.usage
                );
            }
            None => return plan_err!("expected {}", self.usage),
        }
        let schema = self.texts(args.scalar_arguments.iter().skip(1).copied())?;
        // Read again for each statement, because the file may have changed.
        let decoder = self.make(&schema)?;
        let fields = DataType::Struct(decoder.fields().clone());
        self.keep(schema, decoder);
        Ok(Arc::new(Field::new(self.name, fields, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut scalars = vec![];
        for arg in args.args.iter().skip(1) {
            scalars.push(match arg {
                ColumnarValue::Scalar(value) => value.clone(),
                // A literal that was expanded to a column.
                ColumnarValue::Array(values) => ScalarValue::try_from_array(values, 0)?,
            });
        }
        let schema = self.texts(scalars.iter().map(Some))?;
        let decoder = match self.kept(&schema) {
            Some(decoder) => decoder,
            None => self.make(&schema)?,
        };
        let Some(bytes) = args.args.into_iter().next() else {
            return internal_err!("{} has no arguments", self.name);
        };
        let single = matches!(bytes, ColumnarValue::Scalar(_));
        let rows = if single { 1 } else { args.number_rows };
        let bytes = cast(&bytes.into_array(rows)?, &DataType::BinaryView)?;
        let values = self.values(decoder.as_ref(), bytes.as_binary_view())?;
        Ok(match single {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
            false => ColumnarValue::Array(values),
        })
    }
}

impl FromPayload {
    /// The arguments that name a schema.
    fn texts<'a>(
        &self,
        arguments: impl Iterator<Item = Option<&'a ScalarValue>>,
    ) -> Result<Vec<String>> {
        arguments
            .map(
                |argument| match argument.and_then(ScalarValue::try_as_str) {
                    Some(Some(text)) => Ok(text.to_owned()),
                    _ => plan_err!(
                        "{}: a schema is named by text literals; expected {}",
                        self.name,
                        self.usage
                    ),
                },
            )
            .collect()
    }

    fn make(&self, schema: &[String]) -> Result<Arc<dyn PayloadDecoder>> {
        let (file, message) = (schema.first(), schema.get(1));
        let file = file.map(String::as_str).unwrap_or_default();
        let made = payload_decoder(self.format, file, message.map(String::as_str), &self.policy);
        made.or_else(|e| plan_err!("{}: {e}", self.name))
    }

    fn keep(&self, schema: Vec<String>, decoder: Arc<dyn PayloadDecoder>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(schema, decoder);
    }

    fn kept(&self, schema: &[String]) -> Option<Arc<dyn PayloadDecoder>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(schema).map(Arc::clone)
    }

    fn values(&self, decoder: &dyn PayloadDecoder, bytes: &BinaryViewArray) -> Result<ArrayRef> {
        let fields: Vec<usize> = (0..decoder.fields().len()).collect();
        let wanted = Wanted {
            fields: &fields,
            check_all: true,
            schema_ids: false,
        };
        let decoded = decoder.decode(bytes, &wanted).external()?;
        if let Some(bad) = decoded.bad.first() {
            return exec_err!(
                "{}: a payload does not decode: {} ({}); substr(value, 6) takes the frame of a registry off, and \
                 a table with 'value.format' and 'on.bad.row' continues without bad records",
                self.name,
                bad.message,
                preview(bytes.value(bad.row))
            );
        }
        let nulls = bytes.nulls().cloned();
        let fields = decoder.fields().clone();
        let values = StructArray::try_new_with_length(fields, decoded.columns, nulls, bytes.len())?;
        Ok(Arc::new(values))
    }
}
