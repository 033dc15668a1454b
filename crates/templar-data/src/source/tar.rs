//! WebDataset: tar archives in which the files of one sample share a name.
//!
//! The key of a sample is the path of a file up to the first dot of its base name, and what follows is the member:
//! `a/0001.txt` and `a/0001.json` are the members `txt` and `json` of `a/0001`. Files of one key lie one after the
//! other. Which member holds the text is told by the column: `txt` for the file itself, `json.caption` for a field in
//! it. The column `text` takes the member `txt` or `text`, or else the field `text` of the member `json`.
//!
//! The blocks of the archive are read here, because the reader of the tar crate keeps the archive borrowed; that crate
//! reads their headers. An archive ends with blocks of zeros, and one without them was cut off. Where another archive
//! follows, as `cat` joins them, it is read as well.
//!
//! An archive of plain texts is read by the same rules. What they leave out is counted and named: texts with several
//! dots in their names, texts about the data, such as a licence, and a second text of one name.

mod left_out;

use std::io::{BufRead, Read};

use tar::{EntryType, Header, PaxExtensions};

use super::document::{Found, ReadRows};
use super::fault::{FileFault, RowFault};
use super::format::Format;
use super::json::{Field, LISTED};
use crate::about::is_about;
use left_out::LeftOut;

const BLOCK: u64 = 512;

/// The longest name of a file, and the longest list of extended attributes, in bytes.
const MAX_NAME_BYTES: u64 = 64 << 10;

pub(super) struct TarRows<R> {
    reader: R,
    wanted: Wanted,
    max_row_bytes: u64,
    /// The key of the sample that is read, what it holds so far, and how well that fits what is wanted.
    key: Vec<u8>,
    sample: Option<(usize, Found)>,
    row: u64,
    has_sample: bool,
    ended: bool,
    /// The members that were seen, until one fits.
    members: Vec<String>,
    fits: bool,
    left_out: LeftOut,
}

/// The members that may hold the text, the best first, each with the field in it.
struct Wanted {
    column: String,
    members: Vec<(String, Option<Field>)>,
}

impl Wanted {
    fn new(column: &str) -> Self {
        let mut members = vec![(column.to_owned(), None)];
        if column == "text" {
            members.insert(0, ("txt".to_owned(), None));
        }
        if let Some((member, path)) = column.split_once('.') {
            members.push((member.to_owned(), Some(Field::new(path))));
        }
        members.push(("json".to_owned(), Some(Field::new(column))));
        Self { column: column.to_owned(), members }
    }

    fn rank(&self, member: &str) -> Option<usize> {
        self.members.iter().position(|(name, _)| name == member)
    }

    /// Whether a member of this name is a text as it stands.
    fn is_text(&self, member: &str) -> bool {
        self.members.iter().any(|(name, field)| field.is_none() && name == member)
    }
}

/// A file in the archive.
struct Entry {
    path: Vec<u8>,
    size: u64,
    is_file: bool,
    /// Whether it is stored as its pieces, without the zeros between them.
    is_sparse: bool,
}

/// The place in a block of the map of a sparse file that says whether another one follows.
const SPARSE_GOES_ON: usize = 504;

/// The fields that stand before the header of a file, and count instead of it.
#[derive(Default)]
struct Attributes {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Attributes {
    /// Reads extended attributes of POSIX.
    fn read(&mut self, attributes: &[u8]) -> Result<(), FileFault> {
        for attribute in PaxExtensions::new(attributes) {
            let attribute =
                attribute.map_err(|error| damaged(format!("an attribute of a header is malformed ({error})")))?;
            let value = || attribute.value_bytes().to_vec();
            match attribute.key_bytes() {
                b"GNU.sparse.name" => (self.path, self.is_sparse) = (Some(value()), true),
                key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                b"path" if !self.is_sparse => self.path = Some(value()),
                b"size" => self.size = attribute.value().ok().and_then(|size| size.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: BufRead> TarRows<R> {
    pub(super) fn new(reader: R, column: &str, max_row_bytes: usize) -> Self {
        let (key, sample, members, left_out) = Default::default();
        let (wanted, max_row_bytes) = (Wanted::new(column), max_row_bytes as u64);
        let (has_sample, ended, fits) = (false, false, false);
        Self { reader, wanted, max_row_bytes, key, sample, row: 0, has_sample, ended, members, fits, left_out }
    }

    /// The next block; none at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK as usize]>, FileFault> {
        let mut block = Vec::with_capacity(BLOCK as usize);
        self.reader.by_ref().take(BLOCK).read_to_end(&mut block)?;
        match block.try_into() {
            Ok(block) => Ok(Some(block)),
            Err(short) if short.is_empty() => Ok(None),
            Err(_) => Err(damaged("it ends inside of a block")),
        }
    }

    /// The block of the next header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK as usize]>, FileFault> {
        let mut has_end_mark = false;
        loop {
            match self.block()? {
                None if has_end_mark => return Ok(None),
                None => return Err(damaged("it ends before its end mark")),
                Some(block) if block != [0; BLOCK as usize] => return Ok(Some(block)),
                Some(_) => {
                    has_end_mark = true;
                    // A sample does not go on in another archive.
                    self.key.clear();
                }
            }
        }
    }

    /// The next file, at whose first byte the reader then stands. None at the end of the archive.
    fn entry(&mut self) -> Result<Option<Entry>, FileFault> {
        let mut attributes = Attributes::default();
        loop {
            let Some(block) = self.header()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            check_sum(header, &block)?;
            let size = header.entry_size().map_err(|error| damaged(format!("a header states no length ({error})")))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    let mut name = self.small(size)?;
                    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                    attributes.path = Some(name);
                }
                EntryType::XHeader => attributes.read(&self.small(size)?)?,
                EntryType::GNULongLink | EntryType::XGlobalHeader => drop(self.small(size)?),
                kind => {
                    let mut goes_on =
                        kind == EntryType::GNUSparse && header.as_gnu().is_some_and(|gnu| gnu.is_extended());
                    while goes_on {
                        let block = self.block()?.ok_or_else(|| damaged("it ends inside of a header"))?;
                        goes_on = block[SPARSE_GOES_ON] == 1;
                    }
                    let path = attributes.path.unwrap_or_else(|| header.path_bytes().into_owned());
                    let is_sparse = attributes.is_sparse || kind == EntryType::GNUSparse;
                    let is_file = is_sparse || matches!(kind, EntryType::Regular | EntryType::Continuous);
                    return Ok(Some(Entry { path, size: attributes.size.unwrap_or(size), is_file, is_sparse }));
                }
            }
        }
    }

    /// The content of an entry that describes the next one.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, FileFault> {
        if size > MAX_NAME_BYTES {
            return Err(damaged(format!("a name or a list of attributes has {size} bytes")));
        }
        self.content(size)
    }

    fn content(&mut self, size: u64) -> Result<Vec<u8>, FileFault> {
        let mut content = Vec::new();
        self.reader.by_ref().take(size).read_to_end(&mut content)?;
        if content.len() as u64 != size {
            return Err(damaged("it ends inside of a file"));
        }
        self.pass(padding(size))?;
        Ok(content)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), FileFault> {
        let passed = std::io::copy(&mut self.reader.by_ref().take(bytes), &mut std::io::sink())?;
        if passed == bytes { Ok(()) } else { Err(damaged("it ends inside of a file")) }
    }

    /// Reads one file into the sample, or passes over it.
    fn member(&mut self, entry: &Entry, member: &str) -> Result<(), FileFault> {
        let known = self.sample.as_ref().map_or(usize::MAX, |(rank, _)| *rank);
        let rank = self.wanted.rank(member).filter(|&rank| entry.is_file && rank < known);
        let Some(rank) = rank else {
            if entry.is_file {
                self.count_left_out(entry, member, known);
            }
            if entry.is_file && !self.fits && self.members.len() < LISTED && !self.members.iter().any(|m| m == member) {
                self.members.push(member.to_owned());
            }
            return self.pass(entry.size.saturating_add(padding(entry.size)));
        };
        if entry.is_sparse {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(damaged(format!(
                "{path} in it is stored as a sparse file: write the archive without --sparse"
            )));
        }
        let found = if entry.size > self.max_row_bytes {
            self.pass(entry.size.saturating_add(padding(entry.size)))?;
            Some(Found::Bad(RowFault::TooLong { max_bytes: self.max_row_bytes as usize }))
        } else {
            let content = self.content(entry.size)?;
            match &self.wanted.members[rank].1 {
                None => Some(Found::from_bytes(&content)),
                Some(field) => field.read(content.trim_ascii()).unwrap_or_else(|fault| Some(Found::Bad(fault))),
            }
        };
        if let Some(found) = found {
            self.fits = true;
            self.sample = Some((rank, found));
        }
        Ok(())
    }

    /// Counts a text that does not become the sample's. `known` is the rank of the one that the sample has.
    fn count_left_out(&mut self, entry: &Entry, member: &str, known: usize) {
        if self.wanted.rank(member) == Some(known) {
            self.left_out.twice.add(&entry.path);
        } else if member.rsplit_once('.').is_some_and(|(_, end)| self.wanted.is_text(end)) {
            self.left_out.dotted.add(&entry.path);
        }
    }

    /// The sample that is complete.
    fn complete(&mut self) -> Option<(u64, Found)> {
        if !std::mem::take(&mut self.has_sample) {
            return None;
        }
        self.row += 1;
        Some((self.row, self.sample.take().map_or(Found::Nothing, |(_, found)| found)))
    }
}

impl<R: BufRead + Send> ReadRows for TarRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        while !self.ended {
            let Some(entry) = self.entry()? else {
                self.ended = true;
                if !self.fits && !self.members.is_empty() {
                    let columns = self.members.iter().map(|member| format!("{member} (files)")).collect();
                    return Err(FileFault::NoColumn { column: self.wanted.column.clone(), columns });
                }
                break;
            };
            let Some((key, member)) = key_and_member(&entry.path).filter(|_| entry.is_file) else {
                self.pass(entry.size.saturating_add(padding(entry.size)))?;
                continue;
            };
            if self.wanted.is_text(&member) && is_about(&base_name(key)) {
                self.left_out.about.add(&entry.path);
                self.pass(entry.size.saturating_add(padding(entry.size)))?;
                continue;
            }
            let complete = if key == self.key { None } else { self.complete() };
            self.key = key.to_vec();
            self.has_sample = true;
            self.member(&entry, &member)?;
            if complete.is_some() {
                return Ok(complete);
            }
        }
        Ok(self.complete())
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.left_out).notes()
    }
}

/// The last part of a path, in lower case.
fn base_name(path: &[u8]) -> String {
    let base = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(base).to_lowercase()
}

/// The key of the sample that a file belongs to, and the name of the member. None for hidden files and those without a
/// dot.
fn key_and_member(path: &[u8]) -> Option<(&[u8], String)> {
    let base = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = base + path[base..].iter().position(|&byte| byte == b'.')?;
    if dot == base {
        return None;
    }
    Some((&path[..dot], String::from_utf8_lossy(&path[dot + 1..]).to_lowercase()))
}

/// The zeros that fill the last block of a file.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn check_sum(header: &Header, block: &[u8]) -> Result<(), FileFault> {
    // The eight bytes of the sum itself count as blanks.
    let sum = block[..148].iter().chain(&block[156..]).fold(8 * u32::from(b' '), |sum, &byte| sum + u32::from(byte));
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(()),
        _ => Err(damaged("the checksum of a header is wrong")),
    }
}

fn damaged(reason: impl Into<String>) -> FileFault {
    FileFault::damaged(Format::Tar, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o444);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn rows(bytes: &[u8], column: &str) -> Result<Vec<(u64, Found)>, FileFault> {
        let mut rows = TarRows::new(bytes, column, 1000);
        std::iter::from_fn(|| rows.next_row().transpose()).collect()
    }

    fn text(text: &str) -> Found {
        Found::Text { text: text.to_owned(), mended: false }
    }

    #[test]
    fn files_of_one_key_are_one_sample() {
        let long = format!("{}/0003.txt", "folder".repeat(40));
        let files = [
            ("a/0001.jpg", "not text"),
            ("a/0001.txt", "one"),
            ("a/0001.json", r#"{"text":"from json"}"#),
            ("a/0002.json", r#"{"caption":"c","text":"two"}"#),
            ("a/0002.seg.txt", "another member"),
            (&long, "three"),
            ("a/README", "no dot"),
            ("a/.hidden.txt", "hidden"),
            ("a/0004.cls", "7"),
        ];
        let bytes = archive(&files);
        let found = rows(&bytes, "text").unwrap();
        assert_eq!(found, [(1, text("one")), (2, text("two")), (3, text("three")), (4, Found::Nothing)]);
        let captions = rows(&bytes, "json.caption").unwrap();
        assert_eq!(captions[1], (2, text("c")));
        assert_eq!(rows(&bytes, "caption").unwrap(), captions);
        assert_eq!(rows(&bytes, "seg.txt").unwrap()[1], (2, text("another member")));
    }

    #[test]
    fn texts_that_are_left_out_are_named() {
        let files = [
            ("a/LICENSE.txt", "terms"),
            ("a/one.txt", "one"),
            ("a/one.txt", "one again"),
            ("a/chapter.1.txt", "left out"),
            ("a/chapter.2.txt", "left out"),
            ("a/two.json", r#"{"text":"two"}"#),
        ];
        let bytes = archive(&files);
        let mut rows = TarRows::new(&bytes[..], "text", 1000);
        let found: Vec<_> = std::iter::from_fn(|| rows.next_row().unwrap()).collect();
        assert_eq!(found, [(1, text("one")), (2, Found::Nothing), (3, text("two"))]);
        let notes = rows.notes();
        let expected = [
            ("2 of its texts are left out", r#"such as "a/chapter.1.txt""#),
            ("1 of its texts is left out", r#"such as "a/LICENSE.txt""#),
            ("1 of its texts is left out", r#"such as "a/one.txt""#),
        ];
        assert_eq!(notes.len(), expected.len(), "{notes:?}");
        for (note, (number, name)) in notes.iter().zip(expected) {
            assert!(note.contains(number) && note.ends_with(name), "{note}");
        }
        assert_eq!(rows.notes(), Vec::<String>::new(), "a note is taken once");
    }

    #[test]
    fn archives_that_were_joined_are_read_to_the_end() {
        let two = [archive(&[("1.txt", "one")]), archive(&[("1.txt", "two"), ("2.txt", "three")])].concat();
        assert_eq!(rows(&two, "text").unwrap(), [(1, text("one")), (2, text("two")), (3, text("three"))]);
        let error = rows(&[&two[..], &[b'x'; 512]].concat(), "text").unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        assert!(rows(&[&two[..], b"x"].concat(), "text").is_err());
    }

    #[test]
    fn a_sparse_file_is_passed_over_and_refused_where_it_is_wanted() {
        // One block of the map in the header goes on in a block of its own, which the size does not count.
        let sparse = |path: &str| {
            let mut header = Header::new_gnu();
            header.set_path(path).unwrap();
            header.set_entry_type(EntryType::GNUSparse);
            header.set_size(3);
            header.as_gnu_mut().unwrap().isextended = [1];
            header.set_cksum();
            let mut content = [0; 512];
            content[..3].copy_from_slice(b"abc");
            [&header.as_bytes()[..], &[0; 512], &content].concat()
        };
        let after = archive(&[("2.txt", "two")]);
        let found = rows(&[sparse("1.jpg"), after.clone()].concat(), "text").unwrap();
        assert_eq!(found, [(1, Found::Nothing), (2, text("two"))]);
        let error = rows(&[sparse("1.txt"), after.clone()].concat(), "text").unwrap_err().to_string();
        assert!(error.contains("1.txt in it is stored as a sparse file"), "{error}");
        // What GNU tar writes in POSIX's format.
        let mut builder = tar::Builder::new(Vec::new());
        let attributes = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.name", b"3.txt")];
        builder.append_pax_extensions(attributes).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(3);
        builder.append_data(&mut header, "GNUSparseFile.7/3.txt", &b"1\n0"[..]).unwrap();
        let error = rows(&builder.into_inner().unwrap(), "text").unwrap_err().to_string();
        assert!(error.contains("3.txt in it is stored as a sparse file"), "{error}");
    }

    #[test]
    fn an_archive_without_text_lists_what_it_has() {
        let error = rows(&archive(&[("1.jpg", "x"), ("1.cls", "y")]), "text").unwrap_err().to_string();
        assert_eq!(error, "has no column `text` of text; its columns: jpg (files), cls (files)");
        assert_eq!(rows(&archive(&[]), "text").unwrap(), []);
    }

    #[test]
    fn an_archive_that_is_cut_off_or_damaged_is_refused() {
        let bytes = archive(&[("1.txt", "one"), ("2.txt", &"two ".repeat(300))]);
        assert!(matches!(rows(&bytes, "text").unwrap()[1].1, Found::Bad(RowFault::TooLong { max_bytes: 1000 })));
        for length in [0, 100, 512, 515, 600, 1024, 1100, 1536, 2000, bytes.len() - 1024] {
            let error = rows(&bytes[..length], "text").unwrap_err();
            assert!(matches!(error, FileFault::Damaged { .. }), "{length}: {error}");
        }
        let mut flipped = bytes.clone();
        flipped[1] ^= 1;
        assert!(rows(&flipped, "text").unwrap_err().to_string().contains("checksum"));
    }
}
