//! Reads a [`Content`] as DATA packets.

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, Weak};

use ahash::AHashMap;

use super::{Content, OpenFile, SharedFile};
use crate::packet::{DATA_HEADER, write_data_header};

/// Approximate size of the packets made at once, in bytes. A single block is not worth a system
/// call, and larger chunks fall out of the CPU cache.
const CHUNK_SIZE: usize = 32 * 1024;

/// Consecutive DATA packets; all but the content's last have the same size.
pub(crate) type Chunk = Arc<Vec<u8>>;

/// Reads the DATA packets of a content, mostly in order.
///
/// Machines of a rack fetch the same file with the same options at about the same time, so readers
/// of a file share chunks that are close to each other.
#[derive(Debug)]
pub(crate) struct Reader {
    content: Content,
    blksize: u16,
    /// The whole file, if it is small: a running transfer keeps the version that it started with.
    shared_file: Option<Arc<SharedFile>>,
    is_started: bool,
    /// The last chunk used, and its number.
    chunk: Option<(u64, Chunk)>,
}

/// The chunks of a file that some reader holds, by block size and chunk number.
#[derive(Debug, Default)]
pub(super) struct ChunkCache {
    chunks: AHashMap<(u16, u64), Weak<Vec<u8>>>,
    /// The number of entries at which unused ones are dropped.
    sweep_at: usize,
}

// === impl Reader ===

impl Reader {
    /// A reader of blocks of `blksize` bytes, which must not be 0.
    pub(crate) fn new(content: Content, blksize: u16) -> Self {
        Self {
            content,
            blksize,
            shared_file: None,
            is_started: false,
            chunk: None,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }

    /// The number of the last block, which is shorter than `blksize`. Blocks are numbered from 1.
    pub(crate) fn last(&self) -> u64 {
        self.size() / u64::from(self.blksize) + 1
    }

    /// Returns the packets from `block` up to `last`, as far as they are in the same chunk.
    pub(crate) fn packets(&mut self, block: u64, last: u64) -> io::Result<(Chunk, Range<usize>)> {
        let blocks_per_chunk = self.blocks_per_chunk();
        let number = (block - 1) / blocks_per_chunk;
        let chunk = match &self.chunk {
            Some((held, chunk)) if *held == number => chunk.clone(),
            _ => {
                let chunk = self.chunk(number)?;
                self.chunk = Some((number, chunk.clone()));
                chunk
            }
        };
        let first = number * blocks_per_chunk + 1;
        let packet = DATA_HEADER + usize::from(self.blksize);
        let start = position(block - first, chunk.len()) * packet;
        let end = (position(last + 1 - first, chunk.len()) * packet).min(chunk.len());
        Ok((chunk, start..end))
    }

    fn blocks_per_chunk(&self) -> u64 {
        (CHUNK_SIZE / (DATA_HEADER + usize::from(self.blksize))).max(1) as u64
    }

    /// Returns a chunk, shared with other readers of the file if possible.
    fn chunk(&mut self, number: u64) -> io::Result<Chunk> {
        let file = match &self.content {
            Content::Bytes(bytes) => {
                return self.encode_chunk(number, |offset, buffer| {
                    copy(bytes, offset, buffer);
                    Ok(())
                });
            }
            Content::File(file) => file.clone(),
        };
        if !self.is_started {
            self.shared_file = file.shared_file()?;
            self.is_started = true;
        }
        if let Some(chunk) = file.chunk_cache().get(self.blksize, number) {
            return Ok(chunk);
        }
        let chunk = self.encode_chunk(number, |offset, buffer| {
            let Some(shared_file) = &self.shared_file else {
                return file.read(buffer, offset);
            };
            copy(&shared_file.0, offset, buffer);
            Ok(())
        })?;
        file.chunk_cache().insert(self.blksize, number, &chunk);
        Ok(chunk)
    }

    /// Encodes the packets of a chunk. `read` fills a buffer with content from an offset.
    fn encode_chunk(
        &self,
        number: u64,
        read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Chunk> {
        let blksize = usize::from(self.blksize);
        let first = number * self.blocks_per_chunk() + 1;
        let blocks = usize::try_from(self.blocks_per_chunk().min(self.last() + 1 - first))
            .expect("a chunk fits into memory");
        let offset = (first - 1) * u64::from(self.blksize);
        let length = usize::try_from(self.size() - offset)
            .map_or(blocks * blksize, |left| left.min(blocks * blksize));
        let mut bytes = vec![0; blocks * DATA_HEADER + length];
        // Read all content into the end of the buffer, then move it block by block to its place; a
        // move never overwrites content that has not been moved yet.
        read(offset, &mut bytes[blocks * DATA_HEADER..])?;
        let mut header = Vec::with_capacity(DATA_HEADER);
        for (block, index) in (first..).zip(0..blocks) {
            let from = blocks * DATA_HEADER + index * blksize;
            let to = index * (DATA_HEADER + blksize);
            header.clear();
            write_data_header(wire_block_number(block), &mut header);
            bytes.copy_within(
                from..(from + blksize).min(blocks * DATA_HEADER + length),
                to + DATA_HEADER,
            );
            bytes[to..to + DATA_HEADER].copy_from_slice(&header);
        }
        Ok(Arc::new(bytes))
    }
}

// === impl ChunkCache ===

impl ChunkCache {
    fn get(&self, blksize: u16, number: u64) -> Option<Chunk> {
        self.chunks.get(&(blksize, number))?.upgrade()
    }

    fn insert(&mut self, blksize: u16, number: u64, chunk: &Chunk) {
        if self.chunks.len() >= self.sweep_at {
            self.chunks.retain(|_, chunk| chunk.strong_count() > 0);
            self.sweep_at = 2 * self.chunks.len() + 64;
        }
        self.chunks.insert((blksize, number), Arc::downgrade(chunk));
    }
}

// === impl OpenFile ===

impl OpenFile {
    fn chunk_cache(&self) -> std::sync::MutexGuard<'_, ChunkCache> {
        self.chunk_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a block's number on the wire, which wraps: 65,535 is followed by 0.
pub(crate) fn wire_block_number(block: u64) -> u16 {
    (block & 0xffff) as u16
}

fn copy(from: &[u8], offset: u64, buffer: &mut [u8]) {
    let start = position(offset, from.len());
    buffer.copy_from_slice(&from[start..start + buffer.len()]);
}

/// Converts an offset to an index, at most `length`.
fn position(offset: u64, length: usize) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
mod tests;
