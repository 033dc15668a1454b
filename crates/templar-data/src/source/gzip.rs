//! Gzip: all members of a file, one after the other.
//!
//! Some writers fill the last block of a disk or a tape with zeros, which every program passes over. Anything else
//! behind a member is an error: half of a file must not be taken for the whole.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

pub(super) struct Gunzip<R> {
    /// None where the file has ended.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(mut rest) = self.member.take().map(GzDecoder::into_inner)
                && is_more(&mut rest)?
            {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Whether another member follows, before which zeros may stand.
fn is_more(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            None if bytes.is_empty() => return Ok(false),
            None => rest.consume(zeros),
            Some(0x1f) => {
                rest.consume(zeros);
                return Ok(true);
            }
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows its last member")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn member(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    fn text(bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        // A small buffer: how the bytes arrive must not matter.
        let mut reader = Gunzip::new(BufReader::with_capacity(3, bytes));
        reader.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn members_and_zeros_are_read_to_the_end() {
        let three = [member("one "), member(""), member("two")].concat();
        assert_eq!(text(&three).unwrap(), "one two");
        assert_eq!(text(&[&three[..], &[0; 700]].concat()).unwrap(), "one two");
        assert_eq!(text(&[&three[..], &[0; 5], &member(" more")].concat()).unwrap(), "one two more");
    }

    #[test]
    fn what_is_no_member_is_refused() {
        for rest in [&b"garbage"[..], b"\0\0x", b"\x1f", b"\x1f\x8b\x08"] {
            assert!(text(&[&member("one")[..], rest].concat()).is_err(), "{rest:?}");
        }
        assert_eq!(text(&[&member("one")[..], b"x"].concat()), Err("something follows its last member".to_owned()));
        assert!(text(&member("one")[..20]).is_err());
    }
}
