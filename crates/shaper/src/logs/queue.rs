//! A queue of log lines, so that logging never waits for the reader of standard error.
//!
//! Each thread appends to its own buffer, without contention. One writer thread writes all buffers,
//! then pauses for [`WRITE_INTERVAL`]. A line is written at once while there are few, and a busy
//! server makes a few system calls for hundreds of lines. Lines of one thread keep their order;
//! lines of different threads that are written together may swap. If standard error is not read,
//! the writer blocks, buffers fill up, and further lines are dropped. The writer logs how many were
//! dropped once it can write again.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// How long the writer pauses after each write.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum size of one thread's buffer.
const MAX_BUFFER_BYTES: usize = 1024 * 1024;
/// How long to wait for the last lines to be written when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A queue of log lines. Clones share the queue.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

/// Writes the lines that are still queued when dropped.
pub struct FlushGuard(Queue);

#[derive(Default)]
struct Inner {
    /// Whether the writer must be woken. The writer sets this, then checks each buffer once more
    /// under its lock. A line that this check misses was appended under the same lock later, so its
    /// thread sees the flag.
    is_idle: AtomicBool,
    /// The buffers of all threads that log.
    buffers: Mutex<Vec<Arc<ThreadBuffer>>>,
    state: Mutex<State>,
    /// Notified when there are lines for an idle writer, and when the process ends.
    wake_writer: Condvar,
    /// Notified when all lines are written.
    all_written: Condvar,
}

#[derive(Default)]
struct State {
    is_writing: bool,
    is_stopping: bool,
}

/// The lines of one thread. Other threads hold the lock only for a moment.
#[derive(Default)]
struct ThreadBuffer(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    /// Lines that were dropped because the buffer was full.
    lost: u64,
}

thread_local! {
    /// This thread's buffer in each queue. Only tests have more than one queue.
    static THREAD_BUFFERS: RefCell<Vec<(Queue, Arc<ThreadBuffer>)>> = const { RefCell::new(Vec::new()) };
}

// === impl Queue ===

impl Queue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let inner = queue.0.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || inner.write_all(out))?;
        Ok(queue)
    }

    pub(super) fn flush_guard(&self) -> FlushGuard {
        FlushGuard(self.clone())
    }

    /// Appends one line.
    pub(super) fn push(&self, line: &[u8]) {
        let appended = THREAD_BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            let own = buffers
                .iter()
                .position(|(queue, _)| Arc::ptr_eq(&queue.0, &self.0));
            let own = own.unwrap_or_else(|| {
                buffers.push((self.clone(), self.0.new_buffer()));
                buffers.len() - 1
            });
            self.append(&buffers[own].1, line);
        });
        if appended.is_err() {
            // The thread is ending and its thread-local storage is gone.
            self.append(&self.0.new_buffer(), line);
        }
    }

    fn append(&self, buffer: &ThreadBuffer, line: &[u8]) {
        let mut pending = buffer.lock();
        if pending.text.len() + line.len() > MAX_BUFFER_BYTES {
            pending.lost += 1;
        } else {
            pending.text.extend_from_slice(line);
        }
        // The writer set this before it found the buffer empty.
        if self.0.is_idle.load(Ordering::Relaxed) {
            drop(pending);
            self.0.wake();
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> &'a Queue {
        self
    }
}

/// Each call is one line.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl FlushGuard ===

impl Drop for FlushGuard {
    fn drop(&mut self) {
        let inner = &self.0.0;
        let mut state = inner.state();
        state.is_stopping = true;
        inner.is_idle.store(false, Ordering::Relaxed);
        inner.wake_writer.notify_one();
        drop(
            inner
                .all_written
                .wait_timeout_while(state, FLUSH_TIMEOUT, |state| {
                    state.is_writing || inner.has_pending()
                }),
        );
    }
}

// === impl Inner ===

impl Inner {
    /// Ignores poisoning: no code panics while it holds this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Arc<ThreadBuffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a buffer that an ended thread left behind, with its lines, or a new one. The number
    /// of buffers never exceeds the largest number of concurrent threads.
    fn new_buffer(&self) -> Arc<ThreadBuffer> {
        let mut buffers = self.buffers();
        if let Some(unused) = buffers.iter().find(|buffer| Arc::strong_count(buffer) == 1) {
            return unused.clone();
        }
        let buffer = Arc::<ThreadBuffer>::default();
        buffers.push(buffer.clone());
        buffer
    }

    /// Whether any line is still to be written.
    fn has_pending(&self) -> bool {
        self.buffers().iter().any(|buffer| buffer.has_pending())
    }

    /// Wakes the idle writer.
    fn wake(&self) {
        let _state = self.state();
        self.is_idle.store(false, Ordering::Relaxed);
        self.wake_writer.notify_one();
    }

    /// Writes lines until the process ends.
    fn write_all(&self, mut out: impl Write) {
        let mut spare = Vec::new();
        loop {
            self.wait_for_lines();
            self.state().is_writing = true;
            let (texts, lost) = self.drain(&mut spare);
            for mut text in texts {
                write(&mut out, &text);
                // Free the memory of a burst.
                text.clear();
                text.shrink_to(MAX_BUFFER_BYTES / 4);
                spare.push(text);
            }
            let mut state = self.state();
            state.is_writing = false;
            if !self.has_pending() {
                self.all_written.notify_all();
            }
            if lost > 0 {
                drop(state);
                warn!(
                    lines = lost,
                    "log lines were dropped here because standard error was read too slowly"
                );
                continue;
            }
            let until = Instant::now() + WRITE_INTERVAL;
            while let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|_| !state.is_stopping)
            {
                state = self
                    .wake_writer
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
    }

    /// Waits until there is a line to write.
    fn wait_for_lines(&self) {
        while !self.has_pending() {
            self.is_idle.store(true, Ordering::Relaxed);
            // Finds lines that were appended before the flag was set; threads that append later
            // wake the writer.
            if self.has_pending() {
                self.is_idle.store(false, Ordering::Relaxed);
                return;
            }
            let mut state = self.state();
            while self.is_idle.load(Ordering::Relaxed) {
                state = self
                    .wake_writer
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes the lines of all buffers, giving each an empty one in exchange, and returns them with
    /// the number of dropped lines.
    fn drain(&self, spare: &mut Vec<Vec<u8>>) -> (Vec<Vec<u8>>, u64) {
        let (mut texts, mut lost) = (Vec::new(), 0);
        for buffer in &*self.buffers() {
            let mut pending = buffer.lock();
            lost += std::mem::take(&mut pending.lost);
            if !pending.text.is_empty() {
                texts.push(std::mem::replace(
                    &mut pending.text,
                    spare.pop().unwrap_or_default(),
                ));
            }
        }
        (texts, lost)
    }
}

// === impl ThreadBuffer ===

impl ThreadBuffer {
    /// Ignores poisoning: no code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_pending(&self) -> bool {
        let pending = self.lock();
        !pending.text.is_empty() || pending.lost > 0
    }
}

/// Writes the whole text, even if standard error is in non-blocking mode. Errors are ignored: there
/// is nowhere to log them.
fn write(out: &mut impl Write, mut text: &[u8]) {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return,
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(WRITE_INTERVAL);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A writer that writes when the test permits it.
    struct GatedWriter(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for GatedWriter {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // Once the sender is dropped, it writes everything.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated_queue() -> (Sender<()>, Arc<Mutex<Vec<u8>>>, Queue) {
        let (permit, permits) = channel();
        let written = Arc::default();
        (
            permit,
            Arc::clone(&written),
            Queue::start(GatedWriter(permits, written)).unwrap(),
        )
    }

    fn log(mut queue: &Queue, line: &[u8]) {
        queue.write_all(line).unwrap();
    }

    fn wait_until(what: &str, is: impl Fn() -> bool) {
        let started = Instant::now();
        while !is() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{what}: not after 30 seconds"
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    #[test]
    fn dropping_the_guard_writes_all_lines_in_order() {
        let (permit, written, queue) = gated_queue();
        drop(permit);
        let flush = queue.flush_guard();
        let all: Vec<u8> = (0..10_000)
            .flat_map(|number| format!("line {number}\n").into_bytes())
            .collect();
        for line in all.split_inclusive(|byte| *byte == b'\n') {
            log(&queue, line);
        }
        drop(flush);
        assert_eq!(*written.lock().unwrap(), all);
    }

    #[test]
    fn lines_of_each_thread_keep_their_order() {
        const THREADS: usize = 8;
        const LINES: usize = 2_000;
        let (permit, written, queue) = gated_queue();
        drop(permit);
        let flush = queue.flush_guard();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let queue = &queue;
                scope.spawn(move || {
                    for number in 0..LINES {
                        log(queue, format!("{thread} {number}\n").as_bytes());
                        if number % 100 == 0 {
                            // Let the writer become idle now and then, so that it must be woken.
                            thread::sleep(2 * WRITE_INTERVAL);
                        }
                    }
                });
            }
        });
        wait_until("all lines are written without a flush", || {
            written
                .lock()
                .unwrap()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                == THREADS * LINES
        });
        drop(flush);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let mut next = [0; THREADS];
        for line in text.lines() {
            let (thread, number) = line.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(
                number.parse(),
                Ok(*next),
                "{line:?} is in its place, and whole"
            );
            *next += 1;
        }
        assert_eq!(next, [LINES; THREADS]);
    }

    #[test]
    fn a_single_line_is_written_at_once() {
        let (permit, written, queue) = gated_queue();
        drop(permit);
        for number in 0..200 {
            let line = format!("line {number}\n");
            // Some lines arrive when the writer is idle, and some while it becomes idle.
            thread::sleep(WRITE_INTERVAL + Duration::from_micros(number * 7));
            log(&queue, line.as_bytes());
            wait_until("the line is written", || {
                written.lock().unwrap().ends_with(line.as_bytes())
            });
        }
    }

    #[test]
    fn an_ended_threads_lines_are_written_and_its_buffer_is_reused() {
        let (permit, written, queue) = gated_queue();
        for number in 0..20 {
            let queue = queue.clone();
            thread::spawn(move || log(&queue, format!("{number}\n").as_bytes()))
                .join()
                .unwrap();
        }
        assert_eq!(queue.0.buffers().len(), 1, "one thread at a time");
        drop(permit);
        drop(queue.flush_guard());
        let all: String = (0..20).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written.lock().unwrap()), all);
    }

    #[test]
    fn logging_does_not_block_if_standard_error_is_not_read() {
        let (permit, written, queue) = gated_queue();
        log(&queue, b"first\n");
        wait_until("the thread is at the reader", || {
            queue.0.state().is_writing && !queue.0.has_pending()
        });
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..2 * MAX_BUFFER_BYTES / line.len() {
            log(&queue, &line);
        }
        let lost = || {
            queue
                .0
                .buffers()
                .iter()
                .map(|buffer| buffer.lock().lost)
                .sum::<u64>()
        };
        assert!(lost() > 0, "the buffer is full");
        assert!(
            queue
                .0
                .buffers()
                .iter()
                .all(|buffer| buffer.lock().text.len() <= MAX_BUFFER_BYTES)
        );
        drop(permit);
        drop(queue.flush_guard());
        assert!(
            written.lock().unwrap().len() >= MAX_BUFFER_BYTES,
            "buffered lines are kept"
        );
        assert_eq!(lost(), 0, "the loss is logged once");
    }

    #[test]
    fn dropping_the_guard_returns_if_standard_error_is_not_read() {
        let (_permit, written, queue) = gated_queue();
        log(&queue, b"never read\n");
        drop(queue.flush_guard());
        assert!(written.lock().unwrap().is_empty());
    }
}
