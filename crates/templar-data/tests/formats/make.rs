//! Files of every format, made in memory.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::tokenizer;

pub(crate) fn lines(texts: &[String]) -> Vec<u8> {
    texts.iter().map(|text| json!({ "id": 1, "text": text }).to_string() + "\n").collect::<String>().into_bytes()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 0).unwrap()
}

/// The rows in two compressed pieces, one after the other, as `cat` joins files.
pub(crate) fn twice(bytes: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [compress(first), compress(second)].concat()
}

pub(crate) fn column(texts: &[String]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

pub(crate) fn batch(texts: &[String]) -> RecordBatch {
    RecordBatch::try_from_iter([("text", column(texts))]).unwrap()
}

pub(crate) fn parquet_file(batch: &RecordBatch, compression: Compression) -> Vec<u8> {
    let mut file = Vec::new();
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(50));
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    file
}

pub(crate) fn arrow_file(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// The same file as polars writes it: the schema before the first record batch is bare, and not framed as a message.
pub(crate) fn polars_file(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    const MARK: usize = 8;
    const FRAME: usize = 8;
    let mut file = arrow_file(batches, compression);
    let start = file.windows(4).position(|bytes| bytes == [0xff; 4]).unwrap();
    let length = u32::from_le_bytes([4, 5, 6, 7].map(|at| file[start + at])) as usize;
    let end = start + FRAME + length;
    file.copy_within(start + FRAME..end, MARK);
    file[MARK + length..end].fill(0);
    file
}

pub(crate) fn arrow_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

pub(crate) fn table(texts: &[String], delimiter: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    writer.write_record(["id", "text"]).unwrap();
    texts.iter().for_each(|text| writer.write_record(["1", text]).unwrap());
    writer.into_inner().unwrap()
}

pub(crate) fn archive(texts: &[String]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (index, text) in texts.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, format!("set/{index:05}.txt"), text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The tokens of each text that has some.
pub(crate) fn documents(texts: &[String]) -> Vec<Vec<u32>> {
    let tokenizer = tokenizer();
    texts.iter().filter(|text| !text.is_empty()).map(|text| tokenizer.encode(text).unwrap()).collect()
}

pub(crate) fn two_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| (token as u16).to_le_bytes()).collect()
}

pub(crate) fn npy(kind: &str, count: usize, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}\n");
    [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The index that Megatron writes beside tokens of two bytes.
pub(crate) fn megatron_index(documents: &[Vec<u32>]) -> Vec<u8> {
    let mut index = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08".to_vec();
    index.extend((documents.len() as u64).to_le_bytes());
    index.extend((documents.len() as u64 + 1).to_le_bytes());
    index.extend(documents.iter().flat_map(|tokens| (tokens.len() as i32).to_le_bytes()));
    let mut place = 0i64;
    for tokens in documents {
        index.extend(place.to_le_bytes());
        place += 2 * tokens.len() as i64;
    }
    index.extend((0..=documents.len() as i64).flat_map(i64::to_le_bytes));
    index
}

/// Two turns for each text.
pub(crate) fn conversations(texts: &[String]) -> RecordBatch {
    let field = |name: &str| Field::new(name, DataType::Utf8, true);
    let turn = StructBuilder::from_fields(vec![field("role"), field("content")], 0);
    let mut lists = ListBuilder::new(turn);
    for text in texts {
        for (role, content) in [("user", text.clone()), ("assistant", format!("{text}!"))] {
            let turn = lists.values();
            for (field, value) in [role, &content].into_iter().enumerate() {
                turn.field_builder::<StringBuilder>(field).unwrap().append_value(value);
            }
            turn.append(true);
        }
        lists.append(true);
    }
    RecordBatch::try_from_iter([("messages", Arc::new(lists.finish()) as ArrayRef)]).unwrap()
}
