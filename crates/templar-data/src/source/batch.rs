//! Text out of arrow's columns.
//!
//! Arrow has several types for text: with offsets of 32 or 64 bits, as views into shared buffers, and as indices into a
//! dictionary. Each also exists for plain bytes. A reader that gives record batches need not know which of them a file
//! has: a [`Column`] reads all of them. A column may lie inside of structs.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, downcast_dictionary_array, types};
use arrow_schema::{DataType, Field, Fields, Schema};

use super::document::Found;
use super::fault::FileFault;
use super::json::LISTED;
use super::turns::{TurnValue, bad};

/// A column of record batches that all have the same schema.
pub(super) struct Column {
    /// The position of the column among its siblings, at each level from the batch down. Without a step, it is the
    /// whole row.
    steps: Vec<usize>,
}

impl Column {
    /// The only column of the only struct of ... of the only column, `depth` levels down.
    pub(super) fn inside(depth: usize) -> Self {
        Self { steps: vec![0; depth] }
    }

    /// Finds a column of text by its path. A dot leads into a struct, and a name that has a dot itself is taken first.
    ///
    /// # Errors
    /// [`FileFault::NoColumn`] with the columns that there are, and [`FileFault::SeveralColumns`].
    pub(super) fn find(schema: &Schema, path: &str) -> Result<Self, FileFault> {
        let mut steps = Vec::new();
        let found = walk(schema.fields(), path, &mut steps).map(Field::data_type);
        if found.is_some_and(|kind| is_text(kind) || is_list(kind)) {
            if has_twin(schema.fields(), &steps) {
                return Err(FileFault::SeveralColumns { column: path.to_owned() });
            }
            return Ok(Self { steps });
        }
        let mut columns = Vec::new();
        list("", schema.fields(), &mut columns);
        Err(FileFault::NoColumn { column: path.to_owned(), columns })
    }

    /// The position of the field of the schema in which the column lies. From now on it is the only one of a batch.
    pub(super) fn alone(&mut self) -> usize {
        self.steps.first_mut().map_or(0, std::mem::take)
    }

    /// The content of the column in a row of a batch.
    ///
    /// # Errors
    /// The name of the column's type, where it is none for text.
    pub(super) fn found(&self, batch: &RecordBatch, row: usize) -> Result<Found, String> {
        let Some((first, steps)) = self.steps.split_first() else {
            return Ok(row_at(batch, row).map_or_else(|reason| Found::Bad(bad(&reason)), Found::Turns));
        };
        let mut column = batch.column(*first);
        for step in steps {
            // A struct that is null has no text, whatever lies below it.
            if column.is_null(row) {
                return Ok(Found::Nothing);
            }
            column = column.as_struct_opt().ok_or("no struct")?.column(*step);
        }
        if column.is_null(row) {
            return Ok(Found::Nothing);
        }
        if is_list(column.data_type()) {
            return Ok(value_at(column, row, 0).map_or_else(|reason| Found::Bad(bad(&reason)), Found::Turns));
        }
        Ok(text_at(column, row)?.map_or(Found::Nothing, Found::from_bytes))
    }
}

/// Follows the path below some fields. `steps` gets the position at each level.
fn walk<'a>(fields: &'a Fields, path: &str, steps: &mut Vec<usize>) -> Option<&'a Field> {
    let leads = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let mut ways: Vec<usize> = (0..fields.len()).filter(|&way| leads(fields[way].name())).collect();
    // The longest name first.
    ways.sort_by_key(|&way| std::cmp::Reverse(fields[way].name().len()));
    for way in ways {
        let field = &fields[way];
        steps.push(way);
        if field.name() == path {
            return Some(field);
        }
        if let DataType::Struct(inner) = field.data_type()
            && let Some(found) = walk(inner, &path[field.name().len() + 1..], steps)
        {
            return Some(found);
        }
        steps.pop();
    }
    None
}

/// Whether a field on the way has the name of another one beside it.
fn has_twin(fields: &Fields, steps: &[usize]) -> bool {
    let Some((step, below)) = steps.split_first() else { return false };
    let Some(field) = fields.get(*step) else { return false };
    let is_twin = fields.iter().filter(|other| other.name() == field.name()).count() > 1;
    is_twin || matches!(field.data_type(), DataType::Struct(inner) if has_twin(inner, below))
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::FixedSizeBinary(_) => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_list(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
    )
}

/// All fields of a row.
fn row_at(batch: &RecordBatch, row: usize) -> Result<TurnValue, String> {
    let fields = batch.schema_ref().fields().iter().zip(batch.columns());
    let fields = fields.map(|(field, column)| Ok((field.name().clone(), value_at(column, row, 1)?)));
    Ok(TurnValue::Object(fields.collect::<Result<_, String>>()?))
}

/// Lists inside of lists.
const MAX_DEPTH: usize = 64;

/// A value of any type, for the turns of a conversation. A value that no template uses, such as a time, is null.
fn value_at(column: &dyn Array, row: usize, depth: usize) -> Result<TurnValue, String> {
    if depth == MAX_DEPTH {
        return Err(format!("lists nest more than {MAX_DEPTH} deep"));
    }
    if column.is_null(row) {
        return Ok(TurnValue::Null);
    }
    let list = |elements: ArrayRef| {
        (0..elements.len()).map(|element| value_at(&elements, element, depth + 1)).collect::<Result<_, _>>()
    };
    Ok(match column.data_type() {
        DataType::Boolean => TurnValue::Bool(column.as_boolean().value(row)),
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let fields = fields.iter().zip(columns);
            let fields = fields.map(|(field, column)| Ok((field.name().clone(), value_at(column, row, depth + 1)?)));
            TurnValue::Object(fields.collect::<Result<_, String>>()?)
        }
        DataType::List(_) => TurnValue::List(list(column.as_list::<i32>().value(row))?),
        DataType::LargeList(_) => TurnValue::List(list(column.as_list::<i64>().value(row))?),
        DataType::FixedSizeList(..) => TurnValue::List(list(column.as_fixed_size_list().value(row))?),
        DataType::ListView(_) => TurnValue::List(list(column.as_list_view::<i32>().value(row))?),
        DataType::LargeListView(_) => TurnValue::List(list(column.as_list_view::<i64>().value(row))?),
        kind if is_text(kind) => match text_at(column, row)?.map(std::str::from_utf8) {
            Some(Ok(text)) => TurnValue::Text(text.to_owned()),
            Some(Err(_)) => return Err("a field is not UTF-8".to_owned()),
            None => TurnValue::Null,
        },
        kind => number_at(column, kind, row),
    })
}

fn number_at(column: &dyn Array, kind: &DataType, row: usize) -> TurnValue {
    macro_rules! number {
        ($variant:ident $kind:ty) => {
            TurnValue::$variant(column.as_primitive::<$kind>().value(row).into())
        };
    }
    match kind {
        DataType::Int8 => number!(Integer types::Int8Type),
        DataType::Int16 => number!(Integer types::Int16Type),
        DataType::Int32 => number!(Integer types::Int32Type),
        DataType::Int64 => number!(Integer types::Int64Type),
        DataType::UInt8 => number!(Integer types::UInt8Type),
        DataType::UInt16 => number!(Integer types::UInt16Type),
        DataType::UInt32 => number!(Integer types::UInt32Type),
        DataType::Float32 => number!(Number types::Float32Type),
        DataType::Float64 => number!(Number types::Float64Type),
        _ => TurnValue::Null,
    }
}

fn list(prefix: &str, fields: &Fields, columns: &mut Vec<String>) {
    for field in fields {
        if columns.len() == LISTED {
            return;
        }
        let name = format!("{prefix}{}", field.name());
        match field.data_type() {
            DataType::Struct(inner) if prefix.len() < 64 => list(&format!("{name}."), inner, columns),
            kind => columns.push(format!("{name} ({})", named(kind))),
        }
    }
}

/// The name of a type, for people.
fn named(kind: &DataType) -> String {
    match kind {
        kind if is_text(kind) => "text".to_owned(),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            match element.data_type() {
                DataType::Struct(fields) => {
                    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).take(8).collect();
                    format!("list of {}", names.join(", "))
                }
                kind => format!("list of {}", named(kind)),
            }
        }
        kind => kind.to_string().to_lowercase(),
    }
}

/// The bytes of the text in a row of a column; none where the row is null. They need not be UTF-8 where the
/// column is one of bytes.
///
/// # Errors
/// The name of the column's type, where it is none for text.
fn text_at(column: &dyn Array, row: usize) -> Result<Option<&[u8]>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes(),
        DataType::Utf8View => column.as_string_view().value(row).as_bytes(),
        DataType::Binary => column.as_binary::<i32>().value(row),
        DataType::LargeBinary => column.as_binary::<i64>().value(row),
        DataType::BinaryView => column.as_binary_view().value(row),
        // A text that is shorter than the type allows was filled up with zeros.
        DataType::FixedSizeBinary(_) => without_zeros(column.as_fixed_size_binary().value(row)),
        DataType::Dictionary(..) => {
            return downcast_dictionary_array!(
                column => match column.key(row) {
                    // The value of a key may be null, too.
                    Some(key) => text_at(column.values(), key),
                    None => Ok(None),
                },
                other => Err(format!("{other} holds no text"))
            );
        }
        other => return Err(format!("{other} holds no text")),
    }))
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::{Int8Type, UInt32Type};
    use arrow_array::{
        BinaryArray, BinaryViewArray, DictionaryArray, Int32Array, LargeBinaryArray, LargeStringArray, StringArray,
        StringViewArray,
    };

    use super::*;

    /// Longer than the twelve bytes that a view holds itself.
    const TEXTS: [Option<&str>; 4] = [Some("to be"), None, Some(""), Some("or not to be, that is the question")];

    #[test]
    fn every_type_of_text_gives_the_same_bytes() {
        let bytes = TEXTS.map(|text| text.map(str::as_bytes)).to_vec();
        let keys = |values: ArrayRef| {
            let keys = arrow_array::Int8Array::from(vec![Some(1), None, Some(2), Some(0)]);
            Arc::new(DictionaryArray::<Int8Type>::new(keys, values)) as ArrayRef
        };
        let values = vec![TEXTS[3], TEXTS[0], TEXTS[2]];
        let columns: [ArrayRef; 9] = [
            Arc::new(StringArray::from(TEXTS.to_vec())),
            Arc::new(LargeStringArray::from(TEXTS.to_vec())),
            Arc::new(StringViewArray::from(TEXTS.to_vec())),
            Arc::new(BinaryArray::from(bytes.clone())),
            Arc::new(LargeBinaryArray::from(bytes.clone())),
            Arc::new(BinaryViewArray::from(bytes.clone())),
            Arc::new(TEXTS.into_iter().collect::<DictionaryArray<UInt32Type>>()),
            keys(Arc::new(StringArray::from(values.clone()))),
            keys(Arc::new(StringViewArray::from(values))),
        ];
        for column in columns {
            for (row, expected) in bytes.iter().enumerate() {
                assert_eq!(text_at(&column, row), Ok(*expected), "{} {row}", column.data_type());
            }
        }
    }

    #[test]
    fn a_name_that_two_columns_have_is_refused() {
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        let text = || field("text", DataType::Utf8);
        let find = |fields: Vec<Field>, path: &str| Column::find(&Schema::new(fields), path).map(|column| column.steps);
        let doc = |fields: Vec<Field>| field("doc", DataType::Struct(fields.into()));
        assert_eq!(find(vec![doc(vec![text()]), text()], "text").unwrap(), [1]);
        assert_eq!(find(vec![doc(vec![text()]), text()], "doc.text").unwrap(), [0, 0]);
        for (fields, path) in [
            (vec![text(), text()], "text"),
            (vec![doc(vec![text()]), doc(vec![])], "doc.text"),
            (vec![doc(vec![text(), text()])], "doc.text"),
        ] {
            assert!(matches!(find(fields, path), Err(FileFault::SeveralColumns { .. })), "{path}");
        }
    }

    #[test]
    fn a_null_in_a_dictionary_is_no_text() {
        let keys = arrow_array::Int8Array::from(vec![0, 1]);
        let values = StringArray::from(vec![None, Some("a")]);
        let column = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
        assert_eq!(text_at(&column, 0), Ok(None));
        assert_eq!(text_at(&column, 1), Ok(Some(&b"a"[..])));
    }

    #[test]
    fn numbers_are_no_text() {
        assert_eq!(text_at(&Int32Array::from(vec![1]), 0), Err("Int32 holds no text".to_owned()));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let column = DictionaryArray::<Int8Type>::new(arrow_array::Int8Array::from(vec![0]), numbers);
        assert_eq!(text_at(&column, 0), Err("Int32 holds no text".to_owned()));
    }
}
