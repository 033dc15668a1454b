//! Datasets: files of every format that an import reads.

use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use tempfile::TempDir;
use templar_data::{
    ChatTemplate, Import, ImportError, ImportOptions, Imported, Listing, Part, Progress, ShardSink, SinkError, import,
    merge, read_records,
};
use templar_manifest::{BlobId, HeldOut, Payload as _};

use super::tokenizer;

/// Hashes what it is given, and keeps nothing.
struct Discard;

impl ShardSink for Discard {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        Ok(BlobId::of(&bytes))
    }
}

/// Whether a file of this name is imported. The column is the one that the seeds of the target have.
fn read(name: &str, column: &str, bytes: &[u8]) -> bool {
    read_with(&[(name, bytes)], &options(column))
}

fn options(column: &str) -> ImportOptions {
    let mut options = ImportOptions::new("fuzz", "CC0-1.0", "made up");
    options.held_out = HeldOut { block_tokens: 2, every: 2 };
    options.read.max_document_bytes = 1 << 16;
    options.read.column = column.to_owned();
    options
}

/// Whether the first of these files, which lie beside each other, is imported.
fn read_with(files: &[(&str, &[u8])], options: &ImportOptions) -> bool {
    let folder = written(files);
    is_sound(import(&[folder.path().join(files[0].0)], &tokenizer::small(), options, &mut Discard))
}

fn written(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a temporary file");
    }
    folder
}

fn is_sound(imported: Result<Imported, ImportError>) -> bool {
    match imported {
        Ok(imported) => {
            assert_eq!(imported.dataset.check(), Ok(()));
            true
        }
        Err(_) => false,
    }
}

pub(super) fn read_parquet(bytes: &[u8]) -> bool {
    read("input.parquet", "text", bytes)
}

pub(super) fn read_jsonl(bytes: &[u8]) -> bool {
    read("input.jsonl", "text", bytes)
}

pub(super) fn read_array(bytes: &[u8]) -> bool {
    read("input.json", "doc.text", bytes)
}

pub(super) fn read_arrow(bytes: &[u8]) -> bool {
    read("input.arrow", "text", bytes)
}

/// Conversations in any format: the first bytes tell which.
pub(super) fn read_conversations(bytes: &[u8]) -> bool {
    read("input.jsonl", "messages", bytes)
}

pub(super) fn read_table(bytes: &[u8]) -> bool {
    read("input.csv", "text", bytes)
}

pub(super) fn read_tar(bytes: &[u8]) -> bool {
    read("input.tar", "text", bytes)
}

pub(super) fn read_tokens(bytes: &[u8]) -> bool {
    read("input.bin", "text", bytes)
}

/// Compressed lines: the first bytes tell how.
pub(super) fn read_compressed(bytes: &[u8]) -> bool {
    read("input.jsonl", "text", bytes)
}

pub(super) fn read_text(bytes: &[u8]) -> bool {
    read("input.txt", "text", bytes)
}

/// Tokens and their index: the first two bytes are the length of the tokens.
pub(super) fn read_megatron(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let (tokens, index) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    read_with(&[("input.bin", tokens), ("input.idx", index)], &options("text"))
}

/// A chat template that joins a conversation.
pub(super) fn read_template(bytes: &[u8]) -> bool {
    let Ok(template) = std::str::from_utf8(bytes) else { return false };
    let mut options = options("messages");
    options.chat_template = Some(ChatTemplate::new(template));
    read_with(&[("input.jsonl", CONVERSATION.as_bytes().repeat(2).as_slice())], &options)
}

/// The only part of an import.
pub(super) fn read_part(bytes: &[u8]) -> bool {
    let folder = written(&[("input.part", bytes)]);
    is_sound(merge(&[folder.path().join("input.part")], &Progress::default(), &mut Discard))
}

/// A table with all its fields: the first bytes tell the format.
pub(super) fn read_table_of_records(bytes: &[u8]) -> bool {
    let folder = written(&[("input.jsonl", bytes)]);
    read_records(&folder.path().join("input.jsonl")).is_ok()
}

/// Files that other programs wrote: pyarrow 26, polars 2.1 and CPython 3.11.
macro_rules! seeds {
    ($($name:literal)*) => { [$(include_bytes!(concat!("../seeds/", $name)).as_slice()),*].map(<[u8]>::to_vec).to_vec() };
}

const CONVERSATION: &str = "{\"messages\":[{\"role\":\"user\",\"content\":\"ab a\"},\
    {\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"b ab\"}],\"tools\":[1,{\"a\":null}]}]}\n";

pub(super) fn text_seeds() -> Vec<Vec<u8>> {
    let texts = ["ab a\n\nb\u{e9} ab\r\n", "\u{feff}abab b\n"];
    texts.map(|text| text.as_bytes().repeat(3)).to_vec()
}

pub(super) fn megatron_seeds() -> Vec<Vec<u8>> {
    let seed = |kind: u8, width: usize| {
        let tokens: Vec<u8> =
            [1u64, 2, 3, 4, 5, 0, 3].iter().flat_map(|token| token.to_le_bytes()[..width].to_vec()).collect();
        let lengths = [2i32, 1, 4];
        let places = [0i64, 2, 3].map(|place| place * width as i64);
        let index = [
            &b"MMIDIDX\0\0"[..],
            &1u64.to_le_bytes(),
            &[kind],
            &3u64.to_le_bytes(),
            &3u64.to_le_bytes(),
            &lengths.map(i32::to_le_bytes).concat(),
            &places.map(i64::to_le_bytes).concat(),
            &[0i64, 2, 3].map(i64::to_le_bytes).concat(),
        ]
        .concat();
        [&(tokens.len() as u16).to_le_bytes()[..], &tokens, &index].concat()
    };
    vec![seed(8, 2), seed(4, 4)]
}

pub(super) fn template_seeds() -> Vec<Vec<u8>> {
    let templates = [
        "{% for message in messages %}{{ message.role + ': ' }}{% if message.content is string %}{{ message.content | trim }}\
         {% else %}{{ message.content | tojson(indent=2) }}{% endif %}{{ eos_token }}{% endfor %}",
        "{%- set ns = namespace(n=0) -%}{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + 1 -%}{{ ns.n }}{{ m['role'][:3].upper() }}\
         {%- for part in m.get('content', []) -%}{{ part }}{%- endfor -%}{%- endfor -%}",
    ];
    templates.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) fn part_seeds() -> Vec<Vec<u8>> {
    let folder = written(&[("input.jsonl", jsonl_seeds()[0].repeat(3).as_slice())]);
    let (options, tokenizer) = (options("text"), tokenizer::small());
    let import = Import::new(&tokenizer, &options).expect("sound options");
    let listing = Listing::of(&[folder.path().join("input.jsonl")]).expect("a file");
    let part = Part::try_from((1, 1)).expect("a part");
    let made = import.run_part(&listing, part, &Progress::default(), Vec::new());
    vec![made.expect("a part").0]
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    [jsonl_seeds(), array_seeds()[..1].to_vec(), arrow_seeds(), parquet_seeds(), compressed_seeds()].concat()
}

pub(super) fn array_seeds() -> Vec<Vec<u8>> {
    let nested = "[\n {\"doc\": {\"text\": \"ab a\"}},\n {\"doc.text\": \"b \\\"ab]\", \"x\": [{}, [1]]}\n]\n";
    let strange = "[{\"doc\":{\"text\":\"ab\\ud83d a\",\"n\":NaN}},{\"doc\":null},{\"doc\":{\"text\":\"abab\"}}]";
    [nested, strange].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) fn arrow_seeds() -> Vec<Vec<u8>> {
    seeds!("stream.arrow" "file-zstd.arrow" "dictionary.arrow" "view.arrow" "polars.arrow")
}

pub(super) fn conversation_seeds() -> Vec<Vec<u8>> {
    let turns =
        "{\"messages\":[{\"role\":\"a\",\"content\":\"ab ba\"},{\"role\":\"b\",\"content\":[{\"text\":\"a\"}]}]}\n";
    let others = "{\"messages\":[{\"from\":\"gpt\",\"value\":\"ab ba\"},{\"from\":\"b\",\"value\":null}]}\n";
    let lines = [turns, others].map(|line| line.as_bytes().repeat(2));
    [seeds!("conversations.arrow" "conversations.parquet"), lines.to_vec()].concat()
}

pub(super) fn table_seeds() -> Vec<Vec<u8>> {
    let tables = ["id,text\n1,\"ab \"\"a\"\"\nb\"\n2,a b\n\n3,abab\n", "\u{feff}text\r\nab\r\n\"a b a\"\r\n"];
    tables.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) fn tar_seeds() -> Vec<Vec<u8>> {
    seeds!("gnu.tar" "pax.tar")
}

pub(super) fn token_seeds() -> Vec<Vec<u8>> {
    let tokens = [1u16, 2, 3, 0, 4, 5, 1, 2, 0, 3].map(u16::to_le_bytes).concat();
    let header = "{'descr': '<u2', 'fortran_order': False, 'shape': (10,), }\n";
    let numpy = [&b"\x93NUMPY\x01\0"[..], &[header.len() as u8, 0], header.as_bytes(), &tokens].concat();
    let mut llmc = [20_240_520u32, 1, 10].map(u32::to_le_bytes).concat();
    llmc.resize(1024, 0);
    llmc.extend(&tokens);
    vec![tokens, numpy, llmc]
}

pub(super) fn compressed_seeds() -> Vec<Vec<u8>> {
    seeds!("lines.gz" "lines.bz2" "lines.xz" "lines.zst")
}

pub(super) fn parquet_seeds() -> Vec<Vec<u8>> {
    let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())];
    let write = |compression| {
        let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY).with_repetition(Repetition::OPTIONAL);
        let fields = vec![Arc::new(text.build().expect("a column"))];
        let schema = Type::group_type_builder("schema").with_fields(fields).build().expect("a schema");
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into()).expect("a file");
        for rows in [["ab ba", "a"], ["abab", "b ab a"]] {
            let mut group = writer.next_row_group().expect("a group of rows");
            let values = rows.map(ByteArray::from);
            let mut column = group.next_column().expect("a column").expect("there is one");
            column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1]), None).expect("two rows");
            column.close().expect("a column");
            group.close().expect("a group of rows");
        }
        writer.into_inner().expect("a file")
    };
    let others = seeds!("gzip.parquet" "brotli.parquet" "lz4.parquet" "delta-v2.parquet");
    compressions.into_iter().map(write).chain(others).collect()
}

pub(super) fn jsonl_seeds() -> Vec<Vec<u8>> {
    let plain = "{\"text\": \"ab a\"}\n{\"text\": \"b\\n\\u00e9 \\\"ab\\\"\"}\n";
    let nested = "{\"id\": 1, \"meta\": {\"of\": [1, 2.5, null, true]}, \"text\": \"abab\"}\r\n\n{\"text\": \"a\", \"b\": \"a\"}";
    [plain, nested].map(|text| text.as_bytes().to_vec()).to_vec()
}
