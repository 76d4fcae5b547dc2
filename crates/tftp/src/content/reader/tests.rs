use super::*;
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use crate::content::SHARED_BYTES;
use crate::packet::Packet;

const BLKSIZE: u16 = 1432;

/// Serializes the tests that depend on the global budget for small files.
static MEMORY: Mutex<()> = Mutex::new(());

fn reader_of(bytes: &[u8]) -> (tempfile::NamedTempFile, Reader) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let open = OpenFile::new(File::open(file.path()).unwrap()).unwrap();
    (file, Reader::new(Content::File(Arc::new(open)), BLKSIZE))
}

/// Reads blocks and checks their numbers.
fn read(reader: &mut Reader, blocks: std::ops::RangeInclusive<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut block = *blocks.start();
    while block <= *blocks.end() {
        let (chunk, range) = reader.packets(block, *blocks.end())?;
        for packet in chunk[range].chunks(DATA_HEADER + usize::from(reader.blksize)) {
            let Ok(Packet::Data {
                block: number,
                bytes: data,
            }) = Packet::parse(packet)
            else {
                panic!("{packet:?}")
            };
            assert_eq!(number, wire_block_number(block));
            bytes.extend(data);
            block += 1;
        }
    }
    Ok(bytes)
}

#[test]
fn blocks_are_read_in_any_order_up_to_the_last() {
    let bytes: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let (_file, mut reader) = reader_of(&bytes);
    let last = reader.last();
    assert_eq!(last, 70);
    for blocks in [
        1..=1,
        2..=2,
        20..=30,
        19..=19,
        1..=last,
        last..=last,
        1..=64,
    ] {
        let start = usize::try_from(blocks.start() - 1).unwrap() * usize::from(BLKSIZE);
        let end = usize::try_from(*blocks.end()).unwrap() * usize::from(BLKSIZE);
        assert_eq!(
            read(&mut reader, blocks.clone()).unwrap(),
            bytes[start..end.min(bytes.len())],
            "{blocks:?}"
        );
    }
}

#[test]
fn the_last_block_of_a_file_of_whole_blocks_is_empty() {
    for blocks in [0, 1, 22, 23, 44] {
        let (_file, mut reader) = reader_of(&vec![7; blocks * usize::from(BLKSIZE)]);
        let last = blocks as u64 + 1;
        assert_eq!(reader.last(), last);
        assert_eq!(read(&mut reader, last..=last).unwrap(), [0; 0]);
        assert_eq!(
            read(&mut reader, 1..=last).unwrap().len(),
            blocks * usize::from(BLKSIZE)
        );
    }
}

#[test]
fn reading_a_file_that_changed_is_an_error() {
    let (mut file, mut reader) = reader_of(&vec![1; 5_000_000]);
    read(&mut reader, 1..=1).unwrap();
    file.write_all(&[2; 10]).unwrap();
    assert!(read(&mut reader, 100..=100).is_err());
    file.as_file().set_len(10).unwrap();
    assert!(read(&mut reader, 100..=100).is_err());
    // The error is permanent.
    assert!(read(&mut reader, 100..=100).is_err());
}

#[test]
fn nearby_readers_share_chunks_and_unused_chunks_are_freed() {
    let (_file, mut first) = reader_of(&vec![1; 5_000_000]);
    let mut near = Reader::new(first.content.clone(), BLKSIZE);
    let mut far = Reader::new(first.content.clone(), BLKSIZE);
    let mut other = Reader::new(first.content.clone(), 512);
    let (one, _) = first.packets(1, 1).unwrap();
    assert!(Arc::ptr_eq(&one, &near.packets(3, 3).unwrap().0));
    assert!(!Arc::ptr_eq(&one, &far.packets(1_000, 1_000).unwrap().0));
    assert!(!Arc::ptr_eq(&one, &other.packets(1, 1).unwrap().0));
    let weak = Arc::downgrade(&one);
    drop(one);
    read(&mut first, 500..=500).unwrap();
    assert!(weak.upgrade().is_some());
    read(&mut near, 500..=500).unwrap();
    assert!(weak.upgrade().is_none());
    // Entries of unused chunks are dropped eventually.
    read(&mut first, 1..=3_000).unwrap();
    let Content::File(file) = &first.content else {
        panic!()
    };
    assert!(
        file.chunk_cache().chunks.len() < 100,
        "{}",
        file.chunk_cache().chunks.len()
    );
}

#[test]
fn readers_share_a_small_file_and_unused_files_are_freed() {
    let _memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut file, mut first) = reader_of(&vec![1; 100_000]);
    let mut second = Reader::new(first.content.clone(), BLKSIZE);
    read(&mut first, 1..=1).unwrap();
    read(&mut second, 1..=1).unwrap();
    let shared_file = |reader: &Reader| reader.shared_file.clone().unwrap();
    assert!(Arc::ptr_eq(&shared_file(&first), &shared_file(&second)));
    // A running transfer keeps the version it started with.
    file.write_all(&[2; 10]).unwrap();
    for reader in [&mut first, &mut second] {
        let last = reader.last();
        assert_eq!(read(reader, last..=last).unwrap(), [1; 100_000 % 1432]);
    }
    let Content::File(open) = &first.content else {
        panic!()
    };
    let open = open.clone();
    drop((first, second));
    assert!(open.shared_file.lock().unwrap().upgrade().is_none());
}

#[test]
fn small_files_beyond_the_memory_budget_are_read_in_chunks() {
    let _memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let size = 3_000_000;
    let mut readers: Vec<_> = (0..SHARED_BYTES / size + 3)
        .map(|_| reader_of(&vec![3; size]))
        .collect();
    for (_, reader) in &mut readers {
        let last = reader.last();
        assert_eq!(read(reader, last..=last).unwrap(), [3; 3_000_000 % 1432]);
    }
    assert!(
        readers
            .iter()
            .any(|(_, reader)| reader.shared_file.is_none())
    );
}
