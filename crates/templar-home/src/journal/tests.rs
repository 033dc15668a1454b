//! Cuts, zeros, flipped bits, doubled and missing records, and images of power cuts.

use super::frame::{FRAME_BYTES, HEADER_BYTES};
use super::*;

const SECTOR: usize = 512;

/// A journal with these records, its path, its bytes, and the offsets at which its records begin.
fn journal(records: &[&[u8]]) -> (tempfile::TempDir, PathBuf, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let mut starts = Vec::new();
    for record in records {
        starts.push(journal.end as usize);
        journal.append(record).unwrap();
    }
    let path = dir.path().join("journal");
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes, starts)
}

fn owned(records: &[&[u8]]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.to_vec()).collect()
}

/// The entry of `length` bytes, none of them zero.
fn entry(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte * 7) as u8 | 1).collect()
}

/// The records of a file with these bytes, or the offset and sort of its damage. The file is opened and read.
fn opened(dir: &Path, bytes: &[u8]) -> Result<JournalRecords, (u64, JournalDamage)> {
    let path = dir.join("journal");
    std::fs::write(&path, bytes).unwrap();
    let read = Journal::look(dir);
    let found = Journal::open(dir).map(|(_, found)| found);
    match (read, found) {
        (Ok(read), Ok(found)) => {
            assert_eq!(read, found);
            assert_eq!(Journal::look(dir).unwrap(), JournalRecords { torn_bytes: 0, ..found.clone() }, "it is cut off");
            Ok(found)
        }
        (Err(JournalError::Damaged { .. }), Err(JournalError::Damaged { offset, fault, .. })) => {
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "damage changes nothing");
            Err((offset, fault))
        }
        (read, found) => panic!("{read:?}, {found:?}"),
    }
}

#[test]
fn entries_survive_and_a_tail_that_is_cut_anywhere_is_torn() {
    let records = [&b"one"[..], b"", b"three\n", &entry(700)];
    let (dir, path, whole, starts) = journal(&records);
    assert_eq!(Journal::read(dir.path()).unwrap(), owned(&records));
    for length in 0..whole.len() {
        let kept = starts.iter().filter(|&&start| start <= length).count().saturating_sub(1);
        let found = opened(dir.path(), &whole[..length]).unwrap();
        assert_eq!(found.records, owned(&records[..kept]), "{length}");
        let rest = length - if kept == 0 && length < starts[0] { 0 } else { starts[kept] };
        assert_eq!(found.torn_bytes as usize, rest, "{length}");
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(b"four").unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap().len(), kept + 1, "{length}");
    }
    let zeros = [&whole[..], &[0; 5000]].concat();
    assert_eq!(opened(dir.path(), &zeros).unwrap(), JournalRecords { records: owned(&records), torn_bytes: 5000 });
    std::fs::remove_file(path).unwrap();
    assert_eq!(Journal::look(dir.path()).unwrap(), JournalRecords::default());
}

#[test]
fn every_flipped_bit_is_damage_and_nothing_is_cut_off() {
    let records = [&b"one"[..], b"two and more", b"the last"];
    let (dir, _, whole, starts) = journal(&records);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let start = starts.iter().copied().rfind(|start| *start <= bit / 8).unwrap_or(0);
        assert_eq!(opened(dir.path(), &bytes), Err((start as u64, JournalDamage::Changed)), "bit {bit}");
        let kept = Journal::salvage(dir.path()).unwrap();
        let others = records.iter().zip(&starts).filter(|(_, at)| **at != start).map(|(record, _)| record.to_vec());
        assert_eq!(kept, others.collect::<Vec<_>>(), "bit {bit}");
    }
}

/// A power cut leaves any of the last record's sectors unwritten, and the file as long as it was, or as it was to be,
/// or anything between. The record may begin anywhere in a sector.
#[test]
fn every_image_of_a_power_cut_keeps_the_records_before() {
    let dir = tempfile::tempdir().unwrap();
    for before in (440..453).chain([600]) {
        let first = entry(before);
        let last = entry(3 * SECTOR);
        let (_dir, _, whole, starts) = journal(&[&first, &last]);
        let start = starts[1];
        let sectors: Vec<usize> = (start / SECTOR..whole.len().div_ceil(SECTOR)).collect();
        for unwritten in 0..1u32 << sectors.len() {
            let mut image = whole.clone();
            for (_, sector) in sectors.iter().enumerate().filter(|(place, _)| unwritten >> place & 1 == 1) {
                let range = (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(image.len());
                image[range].fill(0);
            }
            for length in [whole.len(), whole.len() - 1, (start / SECTOR + 2) * SECTOR, start + 1, start] {
                let is_whole = unwritten == 0 && length == whole.len();
                let found = opened(dir.path(), &image[..length]).unwrap_or_else(|damage| {
                    panic!("{before} bytes before, sectors {unwritten:b}, length {length}: {damage:?}")
                });
                assert_eq!(found.records.len(), 1 + usize::from(is_whole), "{before} {unwritten:b} {length}");
                assert_eq!(found.records[0], first);
            }
        }
    }
}

#[test]
fn zeros_with_a_record_behind_them_are_damage() {
    let long = entry(6000);
    let records = [&b"one"[..], &long, b"three"];
    let (dir, _, whole, starts) = journal(&records);
    for page in [0, 512, 4096] {
        let mut bytes = whole.clone();
        bytes[page..page + 512].fill(0);
        let start = if page == 0 { 0 } else { starts[1] };
        assert_eq!(opened(dir.path(), &bytes), Err((start as u64, JournalDamage::Changed)), "{page}");
        let kept = Journal::salvage(dir.path()).unwrap();
        assert_eq!(kept.last().unwrap(), b"three");
    }
    // The whole record is gone, with its beginning: the numbers show it.
    let mut bytes = whole.clone();
    bytes[starts[1]..starts[2]].fill(0);
    assert_eq!(opened(dir.path(), &bytes), Err((starts[1] as u64, JournalDamage::Changed)));
}

#[test]
fn a_record_that_is_there_twice_or_not_at_all_is_damage() {
    let records = [&b"one"[..], b"two", b"three"];
    let (dir, _, whole, starts) = journal(&records);
    let doubled = [&whole[..starts[2]], &whole[starts[1]..]].concat();
    assert_eq!(opened(dir.path(), &doubled), Err((starts[2] as u64, JournalDamage::Twice(1))));
    assert_eq!(Journal::salvage(dir.path()).unwrap(), owned(&records));
    let without = [&whole[..starts[1]], &whole[starts[2]..]].concat();
    let missing = JournalDamage::Missing { expected: 1, found: 2 };
    assert_eq!(opened(dir.path(), &without), Err((starts[1] as u64, missing)));
    assert_eq!(Journal::salvage(dir.path()).unwrap(), owned(&[records[0], records[2]]));
    let swapped = [&whole[..starts[1]], &whole[starts[2]..], &whole[starts[1]..starts[2]]].concat();
    assert_eq!(opened(dir.path(), &swapped), Err((starts[1] as u64, missing)));
    assert_eq!(Journal::salvage(dir.path()).unwrap(), owned(&records), "in the order of their numbers");
}

/// Equal entries are equal records but for their numbers.
#[test]
fn the_number_is_part_of_what_is_checked() {
    let (_dir, _, whole, starts) = journal(&[b"same", b"same"]);
    let length = FRAME_BYTES + 4;
    assert_eq!(starts[1] - starts[0], length);
    let (first, second) = (&whole[starts[0]..starts[1]], &whole[starts[1]..]);
    assert_ne!(first[..HEADER_BYTES], second[..HEADER_BYTES]);
    let mut forged = first.to_vec();
    forged[33] = 1;
    assert_ne!(forged, second, "a number is not changed without the checksum");
}

/// A journal as programs of the first form wrote it.
fn first_form(records: &[&[u8]]) -> Vec<u8> {
    let framed = |record: &&[u8]| {
        let length = (record.len() as u32).to_le_bytes();
        [&length[..], templar_manifest::Hash::of(record).as_bytes(), *record].concat()
    };
    records.iter().flat_map(framed).collect()
}

#[test]
fn a_journal_of_the_first_form_is_read_and_written_anew() {
    let long = entry(3000);
    let records = [&b"one"[..], b"", &long];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let bytes = first_form(&records);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Journal::read(dir.path()).unwrap(), owned(&records));
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "reading changes nothing");
    assert_eq!(Journal::salvage(dir.path()).unwrap(), owned(&[records[0], &long]));
    let (mut journal, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(found, JournalRecords { records: owned(&records), torn_bytes: 0 });
    journal.append(b"four").unwrap();
    assert_eq!(Journal::read(dir.path()).unwrap(), owned(&[records[0], records[1], &long, b"four"]));
    assert!(std::fs::read(&path).unwrap().starts_with(MAGIC));
    // However much a crash has left of its last record, the others stay.
    for length in 39 + 36..bytes.len() {
        let found = opened(dir.path(), &bytes[..length]).unwrap();
        assert_eq!(found.records, owned(&records[..2]), "{length}");
        assert_eq!(found.torn_bytes as usize, length - 75);
    }
    // Damage is damage.
    let mut damaged = bytes.clone();
    damaged[36] ^= 1;
    assert_eq!(opened(dir.path(), &damaged), Err((0, JournalDamage::Changed)));
    let mut hole = first_form(&[b"one", &long, b"three"]);
    hole[512..1024].fill(0);
    assert_eq!(opened(dir.path(), &hole), Err((39, JournalDamage::Changed)));
}

#[test]
fn a_replaced_journal_is_kept() {
    let (dir, path, bytes, _) = journal(&[b"one", b"two"]);
    for number in 1..3 {
        let kept = Journal::replace(dir.path(), &[b"two".to_vec()]).unwrap().unwrap();
        assert_eq!(kept, dir.path().join(format!("journal.damaged-{number}")));
        assert_eq!(Journal::read(dir.path()).unwrap(), [b"two".to_vec()]);
    }
    assert_eq!(std::fs::read(dir.path().join("journal.damaged-1")).unwrap(), bytes);
    std::fs::remove_file(path).unwrap();
    assert_eq!(Journal::replace(dir.path(), &[]).unwrap(), None);
}
