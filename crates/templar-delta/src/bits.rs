//! Bits in bytes, counted from the least significant bit of the first byte.

/// Appends bits to bytes. The buffer has room for all of them and for eight bytes more.
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    pending: u64,
    used: u32,
}

// These run for every value sent, and the arithmetic that wraps cannot: a test for it would cost as much as the work.
impl BitWriter {
    /// Creates a writer of at most `bits` bits.
    pub(crate) fn new(bits: u64) -> Self {
        // Bits of a tensor are counted within what the tensor itself takes.
        Self { bytes: vec![0; bits.div_ceil(8) as usize + 8], at: 0, pending: 0, used: 0 }
    }

    /// Appends the low `count` bits of `value`, at most 32. All other bits of `value` are zero.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u64, count: u32) {
        self.pending |= value.wrapping_shl(self.used);
        self.used = self.used.wrapping_add(count);
        if self.used >= 64 {
            self.bytes[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
            self.at += 8;
            self.used -= 64;
            self.pending = value.wrapping_shr(count.wrapping_sub(self.used));
        }
    }

    /// Appends a number in unary: so many zero-bits, and a one-bit.
    #[inline(always)]
    pub(crate) fn put_unary(&mut self, mut zeros: u32) {
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1u64.wrapping_shl(zeros), zeros.wrapping_add(1));
    }

    /// Returns the bytes. The last one is padded with zero-bits.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
        self.bytes.truncate(self.at + self.used.div_ceil(8) as usize);
        self.bytes
    }
}

/// The 64 bits from the first bit of `byte` on. They are zero beyond the end of the bytes.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], byte: u64) -> u64 {
    let byte = usize::try_from(byte).unwrap_or(usize::MAX);
    let rest = bytes.get(byte..).unwrap_or(&[]);
    rest.first_chunk().map_or_else(|| last_word(rest), |chunk| u64::from_le_bytes(*chunk))
}

#[cold]
fn last_word(rest: &[u8]) -> u64 {
    let mut chunk = [0; 8];
    chunk[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(chunk)
}

/// At least 57 bits from `position` on. They are zero beyond the end of the bytes.
#[inline(always)]
pub(crate) fn peek(bytes: &[u8], position: u64) -> u64 {
    word(bytes, position / 8) >> (position % 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_there(parts in prop::collection::vec((any::<u32>(), 0u32..=32, 0u32..100), 0..60)) {
            let bits: u64 = parts.iter().map(|(_, count, zeros)| u64::from(count + zeros + 1)).sum();
            let mut writer = BitWriter::new(bits);
            let low = |value: u32, count: u32| u64::from(value) & ((1 << count) - 1);
            for &(value, count, zeros) in &parts {
                writer.put(low(value, count), count);
                writer.put_unary(zeros);
            }
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len() as u64, bits.div_ceil(8));
            let mut at = 0;
            for (value, count, zeros) in parts {
                prop_assert_eq!(peek(&bytes, at) & ((1 << count) - 1), low(value, count));
                at += u64::from(count);
                prop_assert!((at..at + u64::from(zeros)).all(|at| peek(&bytes, at) & 1 == 0));
                at += u64::from(zeros) + 1;
                prop_assert_eq!(peek(&bytes, at - 1) & 1, 1);
            }
            prop_assert_eq!(peek(&bytes, at), 0);
        }
    }

    #[test]
    fn beyond_the_end_there_are_zeros() {
        assert_eq!((word(&[1, 2, 3], 1), word(&[1, 2, 3], 3), word(&[], 9)), (0x0302, 0, 0));
        assert_eq!((word(&[255; 9], 1), word(&[255; 9], 2)), (u64::MAX, u64::MAX >> 8));
        assert_eq!((peek(&[255; 9], 71), peek(&[255; 9], 1 << 60)), (1, 0));
    }
}
