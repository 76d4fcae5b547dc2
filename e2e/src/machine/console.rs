//! The text of a machine's serial console.

use anyhow::{Context, Result};
use std::io::Read;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everything that the machine has printed, by line, without colours and cursor movements.
#[derive(Debug, Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

/// A complete line and when it was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The time since power-on.
    pub at: Duration,
    /// The text without its line end.
    pub text: String,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    screen: Mutex<Screen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Screen {
    lines: Vec<Line>,
    /// The unfinished line.
    current: String,
    /// All text without line ends: a BIOS console wraps long lines at the screen's edge, within
    /// words.
    unbroken: String,
    escape: Escape,
    open: usize,
}

/// The state of the escape sequence parser.
#[derive(Debug, Default, Clone, Copy)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

// === impl Console ===

impl Console {
    /// Starts reading what `child` prints.
    pub(super) fn of(child: &mut Child) -> Result<Self> {
        let stdout = child.stdout.take().context("the machine has no console")?;
        let stderr = child.stderr.take().context("QEMU has no standard error")?;
        let shared = Arc::new(Shared {
            start: Instant::now(),
            screen: Mutex::new(Screen {
                open: 2,
                ..Screen::default()
            }),
            changed: Condvar::new(),
        });
        // QEMU's own error messages belong to the console too.
        Self::read(&shared, stdout);
        Self::read(&shared, stderr);
        Ok(Self { shared })
    }

    /// Waits until `text` has been printed and returns the time; `None` on a timeout or when the
    /// machine is off. Line wrapping is ignored.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Option<Duration> {
        let deadline = Instant::now() + timeout;
        let mut screen = self.shared.screen();
        loop {
            if screen.unbroken.contains(text) {
                return Some(self.shared.start.elapsed());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || screen.open == 0 {
                return None;
            }
            screen = self
                .shared
                .changed
                .wait_timeout(screen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns the complete lines from number `from` on, once there is one, and whether the machine
    /// is still on.
    pub fn lines_from(&self, from: usize, timeout: Duration) -> (Vec<Line>, bool) {
        let screen = self.shared.screen();
        let (screen, _) = self
            .shared
            .changed
            .wait_timeout_while(screen, timeout, |screen| {
                screen.lines.len() <= from && screen.open > 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        (
            screen.lines.iter().skip(from).cloned().collect(),
            screen.open > 0,
        )
    }

    /// All text so far, the unfinished line included.
    pub fn text(&self) -> String {
        let screen = self.shared.screen();
        let lines = screen.lines.iter().map(|line| line.text.as_str());
        lines
            .chain([screen.current.as_str()])
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The number of times that `text` has been printed.
    pub fn count(&self, text: &str) -> usize {
        self.shared.screen().unbroken.matches(text).count()
    }

    /// The lines between the first line with `begin` and the next one with `end`, each with a line
    /// end.
    pub fn between(&self, begin: &str, end: &str) -> Option<String> {
        let text = self.text();
        let mut lines = text.lines().skip_while(|line| !line.contains(begin));
        lines.next()?;
        Some(
            lines
                .take_while(|line| !line.contains(end))
                .flat_map(|line| [line, "\n"])
                .collect(),
        )
    }

    /// The last `count` lines, for error messages.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let tail = &lines[lines.len().saturating_sub(count)..];
        tail.iter().flat_map(|line| ["  | ", line, "\n"]).collect()
    }

    fn read(shared: &Arc<Shared>, mut from: impl Read + Send + 'static) {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let at = shared.start.elapsed();
                shared.screen().print(&bytes[..count], at);
                shared.changed.notify_all();
            }
            shared.screen().open -= 1;
            shared.changed.notify_all();
        });
    }
}

// === impl Shared ===

impl Shared {
    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Screen ===

impl Screen {
    fn print(&mut self, bytes: &[u8], at: Duration) {
        for &byte in bytes {
            match (self.escape, byte) {
                (Escape::None, 0x1b) => self.escape = Escape::Started,
                (Escape::None, b'\n') => {
                    let text = std::mem::take(&mut self.current);
                    self.lines.push(Line {
                        at,
                        text: text.trim_end().to_owned(),
                    });
                }
                (Escape::None, b' '..=b'~') => {
                    self.current.push(char::from(byte));
                    self.unbroken.push(char::from(byte));
                }
                (Escape::Started, b'[') => self.escape = Escape::Sequence,
                (Escape::Started, _) | (Escape::Sequence, b'@'..=b'~') => {
                    self.escape = Escape::None;
                }
                // Bells and carriage returns are dropped, and so is text beyond ASCII, which no
                // test needs.
                (Escape::None | Escape::Sequence, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_cursor_movements_are_no_text() {
        let mut screen = Screen::default();
        for bytes in [
            &b"\x1b[2J\x1b[01;0"[..],
            b"1Hnet0: \x1b[1mok\x1b[0m\r\n\x1b(Bnext",
        ] {
            screen.print(bytes, Duration::ZERO);
        }
        assert_eq!(
            screen.lines,
            [Line {
                at: Duration::ZERO,
                text: "net0: ok".to_owned()
            }]
        );
        assert!(screen.current.ends_with("next"), "{:?}", screen.current);
    }

    #[test]
    fn text_broken_by_the_edge_of_the_screen_is_found() {
        let mut screen = Screen::default();
        screen.print(b"uuid 47c6da67-74\r\n77-4970\r\n", Duration::ZERO);
        assert!(screen.unbroken.contains("47c6da67-7477-4970"));
    }
}
