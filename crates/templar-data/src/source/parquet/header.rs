//! The sizes in the header of a parquet page.
//!
//! The parquet crate reads headers itself and shows none of it. The size of a page must be known before it is
//! decompressed, so its header is read here as well: a struct in Thrift's compact protocol, of which a few numbers
//! matter and the rest is passed over.

/// The sizes in the header of a page, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PageSizes {
    pub(super) uncompressed: u64,
    /// The bytes at the beginning of a data page of version 2 that are never compressed.
    pub(super) levels: u64,
    /// Whether a data page of version 2 says that it is not compressed at all.
    pub(super) is_plain: bool,
}

/// Structs inside of structs.
const MAX_DEPTH: usize = 16;

/// The types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Reads the header at the beginning of `bytes`. None where it is not one.
pub(super) fn page_sizes(bytes: &[u8]) -> Option<PageSizes> {
    let mut reader = Reader { bytes };
    let mut sizes = PageSizes::default();
    reader.fields(0, &mut |reader, id, kind| match (id, kind) {
        (2, I32) => {
            sizes.uncompressed = reader.size()?;
            Some(true)
        }
        (8, STRUCT) => {
            reader.fields(1, &mut |reader, id, kind| match (id, kind) {
                (5 | 6, I32) => {
                    sizes.levels = sizes.levels.saturating_add(reader.size()?);
                    Some(true)
                }
                (7, FALSE) => {
                    sizes.is_plain = true;
                    Some(true)
                }
                _ => Some(false),
            })?;
            Some(true)
        }
        _ => Some(false),
    })?;
    Some(sizes)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Visits the fields of a struct. `visit` gets the id and the type of a field, and returns whether it has read it.
    fn fields(&mut self, depth: usize, visit: &mut dyn FnMut(&mut Self, i64, u8) -> Option<bool>) -> Option<()> {
        let mut id = 0i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Some(());
            }
            id = match byte >> 4 {
                0 => self.signed()?,
                delta => id.checked_add(i64::from(delta))?,
            };
            let kind = byte & 0xf;
            if !visit(self, id, kind)? {
                self.skip(kind, depth)?;
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        match kind {
            TRUE | FALSE => {}
            I8 => drop(self.byte()?),
            I16 | I32 | I64 => drop(self.varint()?),
            DOUBLE => drop(self.take(8)?),
            BINARY => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length)?;
            }
            LIST | SET => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 0xf { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    match byte & 0xf {
                        // A truth value has a byte of its own here.
                        TRUE | FALSE => drop(self.byte()?),
                        kind => self.skip(kind, depth + 1)?,
                    }
                }
            }
            STRUCT => self.fields(depth + 1, &mut |_, _, _| Some(false))?,
            _ => return None,
        }
        Some(())
    }

    fn size(&mut self) -> Option<u64> {
        u64::try_from(self.signed()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of version 2: type 3, 1000 bytes from 100, a checksum, and inside: 5 values, no nulls, 5 rows,
    /// encoding 0, levels of 2 and 3 bytes, and whether it is compressed.
    fn header(is_compressed: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 6, 0x15, 0xd0, 0x0f, 0x15, 0xc8, 0x01, 0x15, 0x09, 0x4c];
        bytes.extend([0x15, 10, 0x15, 0, 0x15, 10, 0x15, 0, 0x15, 4, 0x15, 6, 0x10 | is_compressed, 0, 0]);
        bytes
    }

    #[test]
    fn sizes_are_read_and_the_rest_is_passed_over() {
        let sizes = PageSizes { uncompressed: 1000, levels: 5, is_plain: false };
        assert_eq!(page_sizes(&header(TRUE)), Some(sizes));
        assert_eq!(page_sizes(&header(FALSE)), Some(PageSizes { is_plain: true, ..sizes }));
        let bytes = header(TRUE);
        for length in 0..bytes.len() {
            assert_eq!(page_sizes(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_header_without_sense_is_none() {
        // Structs without end, a list that states more than there is, a type that does not exist.
        assert_eq!(page_sizes(&[0x1c; 100]), None);
        assert_eq!(page_sizes(&[0x19, 0xf3, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        assert_eq!(page_sizes(&[0x1d, 0]), None);
        assert_eq!(page_sizes(&[0x25, 0x01, 0]), None, "a negative size");
    }
}
