//! Sections of kickstart, as Anaconda reads them (pykickstart, "Kickstart Documentation").

use super::shell::Shell;
use super::{Lexer, VALUE};
use crate::config_format::is_shell;

/// Of longer lines, only the start is read to find sections.
const MAX_LINE_BYTES: usize = 256;
/// The sections whose text is a script.
const SCRIPTS: [&str; 5] = ["%pre", "%pre-install", "%post", "%onerror", "%traceback"];
const SECTIONS: [&str; 4] = ["%packages", "%addon", "%anaconda", "%certificate"];

/// The quotation marks of the current section: commands and scripts are read like a shell reads
/// them, each section from its own start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Kickstart {
    shell: Shell,
    /// The start of the current line.
    line: String,
    /// Whether this section is a script for another interpreter.
    is_other_language: bool,
}

// === impl Kickstart ===

impl Kickstart {
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let is_script = SCRIPTS.contains(&first);
        if is_script || SECTIONS.contains(&first) || first == "%end" {
            self.shell = Shell::default();
            self.is_other_language = is_script && has_other_interpreter(&line);
        } else {
            self.shell.read('\n');
        }
    }
}

impl Lexer for Kickstart {
    fn read(&mut self, c: char) {
        if c == '\n' {
            self.end_line();
            return;
        }
        if self.line.len() < MAX_LINE_BYTES {
            self.line.push(c);
        }
        self.shell.read(c);
    }

    fn reads_quotes(&self) -> bool {
        !self.is_other_language && self.shell.reads_quotes()
    }
}

/// Returns whether the first line of a script may name an interpreter that is no shell.
fn has_other_interpreter(line: &str) -> bool {
    let interpreter = line.split_once(" --i").map(|(_, rest)| rest);
    // The option may be shortened.
    let name = interpreter.and_then(|rest| rest.split(['=', ' ', '\t']).nth(1));
    line.contains(VALUE)
        || line.len() >= MAX_LINE_BYTES
        || interpreter.is_some() && !name.is_some_and(is_shell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_quotes(text: &str) -> bool {
        let mut kickstart = Kickstart::default();
        text.chars().for_each(|c| kickstart.read(c));
        kickstart.reads_quotes()
    }

    #[test]
    fn each_section_has_quotation_marks_of_its_own() {
        for text in [
            "network --hostname=",
            "%packages\n# don't\n%end\nnetwork --hostname=",
            "%pre\ncat <<EOF\n%end\nnetwork --hostname=",
            "%post --log=/root/log\necho ",
            "%post --interpreter=/bin/bash --nochroot\necho ",
            "%pre --interpreter /usr/bin/sh\necho ",
            "%pre --interpreter=/usr/bin/python3\nprint('\\'')\n%end\n%post\necho ",
        ] {
            assert!(reads_quotes(text), "{text:?}");
        }
        for text in [
            "network --hostname=\"",
            "%post\necho \"",
            "%post\ncat <<EOF\n",
            "%pre --interpreter=/usr/bin/python3\nname = ",
            "%pre --log=x --interpreter /usr/bin/python3\nname = ",
            "%pre --interp=/usr/bin/python3\nname = ",
            "%pre \u{1}\nname = ",
        ] {
            assert!(!reads_quotes(text), "{text:?}");
        }
    }
}
