//! Keys with values, as bytes.

/// Everything begins at a multiple of it.
const ALIGNMENT: u64 = 32;

/// The bytes from a length to the next multiple of the alignment.
pub(super) fn padding(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT) - length
}

/// The numbers of the types.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Keys with values in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    count: u64,
}

impl Values {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(value.into());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        put_text(&mut self.bytes, value);
    }

    pub(super) fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.array(key, STRING, values.len());
        values.for_each(|value| put_text(&mut self.bytes, value));
    }

    pub(super) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, I32, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn f32s(&mut self, key: &str, values: &[f32]) {
        self.array(key, F32, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn array(&mut self, key: &str, of: u32, length: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(of.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }

    fn key(&mut self, key: &str, of: u32) {
        put_text(&mut self.bytes, key);
        self.bytes.extend(of.to_le_bytes());
        self.count += 1;
    }
}

/// A text with its length before it.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
