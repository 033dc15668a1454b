//! Text out of arrow's columns.
//!
//! Arrow has several types for text: with offsets of 32 or 64 bits, as views into shared buffers, and as indices into a
//! dictionary. Each also exists for plain bytes. A reader that gives record batches need not know which of them a file
//! has: [`text_at`] reads all of them.

use arrow_array::cast::AsArray;
use arrow_array::{Array, downcast_dictionary_array};
use arrow_schema::DataType;

/// The bytes of the text in a row of a column; none where the row is null. They need not be UTF-8 where the
/// column is one of bytes.
///
/// # Errors
/// The name of the column's type, where it is none for text.
pub(super) fn text_at(column: &dyn Array, row: usize) -> Result<Option<&[u8]>, String> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::{Int8Type, UInt32Type};
    use arrow_array::{
        ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, Int32Array, LargeBinaryArray, LargeStringArray,
        StringArray, StringViewArray,
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
