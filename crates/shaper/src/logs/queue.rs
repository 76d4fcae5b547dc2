//! Lines on their way to standard error, so that nobody waits for whoever reads it.
//!
//! Whoever logs appends to a text in memory; a thread writes what is there, all of it at once, and rests for a moment. So a line is on
//! its way at once while there are few, and a busy server makes one system call for hundreds of them. A reader that does not read keeps
//! the thread waiting and nobody else: once there is too much, lines are lost, counted, and that is said as soon as it reads again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// The thread rests so long between two writes.
const REST: Duration = Duration::from_millis(10);
/// Most bytes that wait to be written.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What is waiting at the end is given up after so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where lines are put.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

/// Writes what waits, when it is dropped.
pub struct Flush(Queue);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told when the thread is idle and there is something to write, and when there is nothing more to come.
    more: Condvar,
    /// Told when all is written.
    written: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    /// Lines for which there was no room.
    lost: u64,
    /// Whether the thread waits to be told.
    is_idle: bool,
    is_writing: bool,
    is_ending: bool,
}

// === impl Queue ===

impl Queue {
    /// Starts the thread that writes to `out`. Where there can be none, lines are written by whoever logs.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let shared = queue.0.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out))?;
        Ok(queue)
    }

    pub(super) fn flush_at_end(&self) -> Flush {
        Flush(self.clone())
    }

    /// Takes a line, in one piece.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.text.len() + line.len() > MAX_BYTES {
            waiting.lost += 1;
            return;
        }
        waiting.text.extend_from_slice(line);
        if waiting.is_idle {
            waiting.is_idle = false;
            self.0.more.notify_one();
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> &'a Queue {
        self
    }
}

/// A line is given in one piece.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Flush ===

impl Drop for Flush {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut waiting = shared.lock();
        waiting.is_ending = true;
        waiting.is_idle = false;
        shared.more.notify_one();
        let is_left = |waiting: &mut Waiting| waiting.is_writing || !waiting.text.is_empty();
        drop(shared.written.wait_timeout_while(waiting, PATIENCE, is_left));
    }
}

// === impl Shared ===

impl Shared {
    /// Nothing that could panic happens under the lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the process ends.
    fn write_all(&self, mut out: impl Write) {
        let mut text = Vec::new();
        loop {
            let lost = self.take(&mut text);
            write(&mut out, &text);
            // One burst must not keep its room for ever.
            text.clear();
            text.shrink_to(MAX_BYTES / 16);
            let mut waiting = self.lock();
            waiting.is_writing = false;
            if waiting.text.is_empty() {
                self.written.notify_all();
            }
            if lost > 0 {
                drop(waiting);
                warn!(lines = lost, "lines of this log are lost here: whoever reads it was too slow");
                continue;
            }
            let until = Instant::now() + REST;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| !waiting.is_ending) {
                waiting = self.more.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Waits for something to write; and how many lines are missing after it.
    fn take(&self, text: &mut Vec<u8>) -> u64 {
        let mut waiting = self.lock();
        while waiting.text.is_empty() {
            waiting.is_idle = true;
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_idle = false;
        waiting.is_writing = true;
        std::mem::swap(&mut waiting.text, text);
        std::mem::take(&mut waiting.lost)
    }
}

/// Writes all of it, also where standard error was left in a mode in which writing does not wait. Without a reader there is no log.
fn write(out: &mut impl Write, mut text: &[u8]) {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return,
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(REST),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that reads when it is told to.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // Once nobody tells any more, it reads all.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Sender<()>, Arc<Mutex<Vec<u8>>>, Queue) {
        let (read, told) = channel();
        let seen = Arc::default();
        (read, Arc::clone(&seen), Queue::start(Slow(told, seen)).unwrap())
    }

    fn log(mut queue: &Queue, line: &[u8]) {
        queue.write_all(line).unwrap();
    }

    #[test]
    fn all_lines_are_written_in_their_order_before_the_end() {
        let (read, seen, queue) = slow();
        drop(read);
        let flush = queue.flush_at_end();
        let all: Vec<u8> = (0..10_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        for line in all.split_inclusive(|byte| *byte == b'\n') {
            log(&queue, line);
        }
        drop(flush);
        assert_eq!(*seen.lock().unwrap(), all);
    }

    #[test]
    fn whoever_logs_does_not_wait_for_a_reader_that_does_not_read() {
        let (read, seen, queue) = slow();
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..2 * MAX_BYTES / line.len() {
            log(&queue, &line);
        }
        assert!(queue.0.lock().lost > 0, "there is no room for all of it");
        assert!(queue.0.lock().text.len() <= MAX_BYTES);
        drop(read);
        drop(queue.flush_at_end());
        assert!(seen.lock().unwrap().len() >= MAX_BYTES, "what there was room for is not lost");
        assert_eq!(queue.0.lock().lost, 0, "the loss is told once");
    }

    #[test]
    fn a_reader_that_never_reads_does_not_keep_the_process() {
        let (_read, seen, queue) = slow();
        log(&queue, b"never read\n");
        drop(queue.flush_at_end());
        assert!(seen.lock().unwrap().is_empty());
    }
}
