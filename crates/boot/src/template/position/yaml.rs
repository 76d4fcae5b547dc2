//! Lines of YAML 1.2: where a node begins, and which lines belong to a scalar that began before.

use super::{Lexer, VALUE};

/// Maximum length of the word that begins a block scalar, as in `|2-`.
const MAX_HEADER_BYTES: usize = 4;
const MARKER_BYTES: usize = 3;

/// The current line, and what the lines before it have left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Yaml {
    /// A scalar that the next lines may belong to.
    scalar: Option<Scalar>,
    /// The column of the key or item whose value is on the next lines.
    parent: Option<usize>,
    line: Line,
    is_after_cr: bool,
    is_unknown: bool,
}

/// A scalar of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scalar {
    /// Minimum indentation of its lines.
    indentation: usize,
    /// Whether it is a block scalar, in which comments and markers of structure are text.
    is_block: bool,
}

/// What is known of a line so far, apart from its text. If a flow collection or a quoted scalar
/// is open at its end, the next line is a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The first characters, which may mark the start or the end of a document.
    marker: String,
    /// Number of spaces at the start, or `None` if there is nothing else yet.
    indentation: Option<usize>,
    /// Number of characters up to the innermost node that begins at the start of this line, as
    /// after `- `.
    column: usize,
    /// The columns of the node around that node, and of that node.
    nodes: [usize; 2],
    lead: Lead,
    /// The last word, if it is short.
    word: String,
    /// Whether the last word is all that there is of the node, apart from tags and anchors.
    is_only_word: bool,
    /// The quotation mark that is open.
    quote: Option<char>,
    /// Number of flow collections that are open.
    depth: usize,
    /// The last character, if it means something together with the next one.
    last: Option<char>,
    place: Place,
    part: Part,
    /// Whether there was nothing but indicators of sequences and mappings.
    is_line_start: bool,
    is_after_space: bool,
}

/// What that node is, as far as this line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    /// It has no indicator.
    Nothing,
    /// An item, after `- `.
    Item,
    /// A mapping, whose key is on this line.
    Key,
}

/// What comes before the current position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An indicator, or nothing: a node begins here.
    Start,
    /// A plain scalar.
    Plain,
    /// The end of a quoted scalar or of a flow collection.
    End,
}

/// What the current word is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Node,
    /// A tag or an anchor.
    Property,
    Comment,
}

// === impl Yaml ===

impl Yaml {
    /// Returns whether the current line belongs to a scalar that began on an earlier one.
    fn is_in_scalar(&self) -> bool {
        let indentation = self.line.indentation.unwrap_or(self.line.column);
        self.scalar
            .is_some_and(|scalar| indentation >= scalar.indentation && !self.line.is_marker())
    }

    fn end_line(&mut self) {
        self.line.end_word();
        let is_empty = self.line.indentation.is_none();
        let is_block = self.scalar.is_some_and(|scalar| scalar.is_block);
        let next = if self.is_in_scalar() || is_empty && self.line.depth == 0 {
            Line::default()
        } else if self.line.is_open() {
            self.line.continued()
        } else if self.line.is_comment() && !is_block {
            Line::default()
        } else {
            self.scalar = self.line.scalar(self.parent);
            self.parent = self.line.parent();
            Line::default()
        };
        self.line = next;
    }
}

impl Lexer for Yaml {
    fn read(&mut self, c: char) {
        let is_after_cr = std::mem::replace(&mut self.is_after_cr, c == '\r');
        match c {
            '\n' if is_after_cr => {}
            '\n' | '\r' => self.end_line(),
            // Line breaks of YAML 1.1 only.
            '\u{85}' | '\u{2028}' | '\u{2029}' => self.is_unknown = true,
            _ => self.line.read(c),
        }
    }

    fn reads_quotes(&self) -> bool {
        !self.is_unknown && !self.is_in_scalar() && self.line.is_node_start()
    }
}

// === impl Line ===

impl Default for Line {
    fn default() -> Self {
        Self {
            marker: String::new(),
            indentation: None,
            column: 0,
            nodes: [0; 2],
            lead: Lead::Nothing,
            word: String::new(),
            is_only_word: true,
            quote: None,
            depth: 0,
            last: None,
            place: Place::Start,
            part: Part::Node,
            is_line_start: true,
            is_after_space: true,
        }
    }
}

impl Line {
    fn is_marker(&self) -> bool {
        matches!(&*self.marker, "---" | "...")
    }

    /// Returns whether a flow collection or a quoted scalar is open.
    fn is_open(&self) -> bool {
        self.quote.is_some() || self.depth > 0
    }

    /// Returns whether there is nothing but a comment.
    fn is_comment(&self) -> bool {
        self.part == Part::Comment && self.is_line_start && self.lead == Lead::Nothing
    }

    /// Returns the next line of an open flow collection or quoted scalar.
    fn continued(&self) -> Self {
        Self {
            marker: String::new(),
            last: None,
            part: Part::Node,
            is_line_start: false,
            is_after_space: true,
            word: String::new(),
            ..self.clone()
        }
    }

    fn is_node_start(&self) -> bool {
        let is_separate = self
            .last
            .is_none_or(|c| c == ':' && self.place == Place::Start);
        let is_in_node = self.quote.is_some() || self.part == Part::Comment;
        !is_in_node && self.place == Place::Start && is_separate
    }

    /// Returns the scalar that goes on after this line (YAML 1.2, sections 7.3.3 and 8.1).
    /// `parent` is the column of the key or item whose value may begin on this line.
    fn scalar(&self, parent: Option<usize>) -> Option<Scalar> {
        let indicators = self
            .word
            .strip_prefix(['|', '>'])
            .filter(|it| it.chars().all(|c| "+-0123456789".contains(c) || c == VALUE));
        let is_block = indicators.is_some();
        let is_marker = self.is_marker();
        if !is_block && (self.place != Place::Plain || is_marker && self.word == self.marker) {
            return None;
        }
        let [outer, inner] = self.nodes;
        let indentation = match self.lead {
            _ if is_marker => 0,
            Lead::Key => inner + 1,
            Lead::Item => outer + 1,
            // The value of an earlier line, or of a whole document.
            Lead::Nothing => parent.map_or(0, |column| column + 1),
        };
        Some(Scalar {
            indentation,
            is_block,
        })
    }

    /// Returns the column of the key or item at the end of this line, whose value comes next.
    fn parent(&self) -> Option<usize> {
        let [outer, inner] = self.nodes;
        match self.lead {
            Lead::Key if self.place == Place::Start => Some(inner),
            Lead::Item if self.place == Place::Start => Some(outer),
            _ => None,
        }
    }

    fn read(&mut self, c: char) {
        if self.marker.len() < MARKER_BYTES {
            self.marker.push(c);
        }
        let is_space = c.is_whitespace();
        if c == '#' && self.is_after_space && self.quote.is_none() && self.part != Part::Comment {
            self.end_word();
            self.part = Part::Comment;
            self.indentation.get_or_insert(self.column);
        }
        if self.part != Part::Comment {
            if is_space {
                self.end_word();
            } else {
                self.read_word(c);
            }
        }
        self.is_after_space = is_space;
        if self.is_line_start {
            self.column += 1;
        }
    }

    fn end_word(&mut self) {
        if self.quote.is_some() {
            self.last = None;
            return;
        }
        match self.last.take() {
            // It was an indicator.
            Some(':') => {
                self.place = Place::Start;
                if self.depth == 0 {
                    self.lead = Lead::Key;
                }
            }
            Some('-' | '?') => {
                self.lead = Lead::Item;
                // The next word is a node in this one.
                self.is_only_word = true;
            }
            _ => {}
        }
        if self.part == Part::Property {
            // After a tag or an anchor comes its node.
            self.place = Place::Start;
            self.part = Part::Node;
        }
    }

    fn read_word(&mut self, c: char) {
        self.indentation.get_or_insert(self.column);
        let last = self.last.take();
        if self.quote.is_none() && matches!(last, Some('-' | '?')) {
            // It was the start of a plain scalar.
            (self.place, self.is_line_start) = (Place::Plain, false);
        }
        let is_start = self.place == Place::Start;
        let is_property = self.part == Part::Property
            || self.quote.is_none() && is_start && matches!(c, '!' | '&');
        if self.is_after_space && self.quote.is_none() {
            if self.is_line_start && self.is_only_word {
                self.nodes = [self.nodes[1], self.column];
            }
            self.is_only_word &= self.is_line_start;
            self.word.clear();
        }
        if self.word.len() <= MAX_HEADER_BYTES {
            self.word.push(c);
        }
        match self.quote {
            Some('"') if last == Some('\\') => {}
            Some('"') if c == '\\' => self.last = Some(c),
            Some(quote) => {
                if c == quote {
                    (self.quote, self.place, self.last) = (None, Place::End, Some(c));
                }
            }
            // In single quotation marks, two are one.
            None if c == '\'' && last == Some(c) => self.quote = Some(c),
            None if is_property => {
                (self.part, self.place) = (Part::Property, Place::Plain);
                // The node after it begins here as well.
                self.is_only_word = false;
            }
            None => self.read_unquoted(c),
        }
    }

    fn read_unquoted(&mut self, c: char) {
        let is_start = self.place == Place::Start;
        match c {
            '"' | '\'' if is_start => {
                self.quote = Some(c);
                self.place = Place::Plain;
            }
            '[' | '{' if is_start => self.depth += 1,
            ']' | '}' if self.depth > 0 => {
                self.depth -= 1;
                self.place = Place::End;
            }
            ',' if self.depth > 0 => self.place = Place::Start,
            ':' => {
                self.last = Some(c);
                // In a flow collection, no space is needed after a quoted key.
                self.place = if self.depth > 0 && self.place == Place::End {
                    Place::Start
                } else {
                    Place::Plain
                };
            }
            // Indicators, if white space follows.
            '-' | '?' if self.is_line_start && is_start => {
                self.last = Some(c);
                return;
            }
            _ => self.place = Place::Plain,
        }
        self.is_line_start = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_quotes(text: &str) -> bool {
        let mut yaml = Yaml::default();
        text.chars().for_each(|c| yaml.read(c));
        yaml.reads_quotes()
    }

    #[test]
    fn a_quoted_scalar_is_read_where_a_node_begins() {
        for text in [
            "",
            "  ",
            "a: ",
            "a:\n  ",
            "- ",
            "- - ",
            "- a: ",
            "  - a: ",
            "? ",
            "a: [",
            "a: [b, ",
            "a: {b: ",
            "a: {\"b\":",
            "\"a\": ",
            "'it''s': ",
            "\u{1}: ",
            "it's: ",
            "a: !!str ",
            "a: &anchor ",
            "a#b: ",
            "'#': ",
            "a:\n  b: [\n    c,\n    ",
            "a: {b: c,\n  d: ",
            "a: \"b\n  c\"\nd: ",
            "a: 'b\n\n  it''s c'\nd: ",
            "a: b\n  c\nd: ",
            "- a: b\n  c: ",
            "- a\n- ",
            "- a b\n# c\n- ",
            "a:\n  b:\n    c\n  d: ",
            "a:\n  b:\n  - c\n  d: ",
            "a:\n- b\nc: ",
            "a:\n- \u{1}\nc:\n  - ",
            "--- a\n...\nb: ",
            "a: [b, c]\nd: ",
            "a: {b: \"c\", d: \"e\"}\n\nf: ",
            "#cloud-config\na: ",
            "a: !!str &anchor ",
            "a: [[b], ",
            "--- |\n  x\n---\na: ",
        ] {
            assert!(reads_quotes(text), "{text:?}");
        }
    }

    #[test]
    fn no_quoted_scalar_is_read_inside_of_another_scalar() {
        for text in [
            "a: b ",
            "- echo ",
            "- echo - ",
            "- echo, ",
            "a: \"",
            "a: \"b\\\"",
            "a: '",
            "- 'echo host: ",
            "- 'it''s: ",
            "- a\n  ",
            "- a\n\n  b: ",
            "- a &&\n  b\n  ",
            "a: b\n  ",
            "a:\n  b\n  ",
            "a:\n  - b\n    ",
            "- [a, 'b\n  c: ",
            "- [a,\n  'b: ",
            "a: '{\n  \"b\": ",
            "a: \"b\n\n  c: ",
            "a: {b:",
            "a: {b: c\n  ",
            "word\n",
            "- \"a\\\\\\\": ",
            "# a: ",
            "a: b # c: ",
            "- -a ",
            "a: http:",
            "a: \"b: ",
            "a: b[",
            "a: [b ",
            "a: !!str x ",
            "a: [b], ",
            "-",
            "a:",
            "a: \u{1}",
        ] {
            assert!(!reads_quotes(text), "{text:?}");
        }
    }

    #[test]
    fn the_lines_of_a_block_scalar_are_text() {
        for header in [
            "a: |",
            "a: >",
            "a: |-",
            "a: >2+",
            "a: | # note",
            "- |",
            "- a: |",
            "--- |",
            "a: !!str |",
            "- !!str |",
            "- &a |",
            "&a k: |",
            "a: |\u{1}",
            "- - |",
            "  a: |",
        ] {
            let text = format!("{header}\n    x\n\n    b: ");
            assert!(!reads_quotes(&text), "{text:?}");
        }
        for text in [
            "a: |\n  x\nb: ",
            "- a: |\n    x\n  b: ",
            "- |\n  x\n- ",
            "- - |\n    x\n  - ",
            "  a: |\n    x\n  b: ",
            "a: |\n\n  x\n\nb: ",
            "a: x|\nb: ",
        ] {
            assert!(reads_quotes(text), "{text:?}");
        }
    }
}
