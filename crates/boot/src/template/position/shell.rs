//! Quotation marks, here documents and comments of a shell (POSIX, XCU 2.2, 2.3 and 2.7.4).

use std::collections::VecDeque;

use super::{Lexer, VALUE};

/// Lines of a here document that are longer do not end it.
const MAX_DELIMITER_BYTES: usize = 256;
/// With more constructs inside of each other, or more here documents at once, nothing counts as
/// known.
const MAX_DEPTH: usize = 32;

/// The constructs that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Shell {
    /// From the outermost to the innermost.
    open: Vec<Open>,
    /// Here documents that begin at the next line.
    announced: VecDeque<HereDocument>,
    /// The operator and the word that announce a here document, while they are read.
    operator: Option<HereDocument>,
    /// The last characters, the last one first.
    last: [Option<char>; 4],
    is_escape: bool,
    is_unknown: bool,
}

/// A construct that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    /// `'...'`
    Single,
    /// `$'...'`, in which a backslash escapes.
    DollarSingle,
    /// `"..."`
    Double,
    /// `${...}` outside of quotation marks. Its `#`, `(` and `<` belong to patterns.
    Expansion,
    /// `${...}` inside of `"..."`, where shells differ in how they read quotation marks.
    Parameter,
    /// `'...'` inside of that.
    ParameterQuote,
    /// `` `...` ``, which ends at the next backtick, also if that is in quotation marks.
    Backtick,
    /// `$(...)`, in which quotation marks are read as outside, with the number of parentheses.
    Substitution(usize),
    /// `((...))`, in which quotation marks protect nothing, with the number of parentheses. It is
    /// two subshells if it does not end with `))`.
    Arithmetic(usize),
    /// `$[...]`, arithmetic of old versions of bash, with the number of brackets.
    Brackets(usize),
    /// `#...`
    Comment,
    Here(HereDocument, HereLine),
}

/// The current line of a here document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HereLine {
    /// Its start.
    text: String,
    /// Whether it ends with an odd number of backslashes, of which the last one escapes.
    is_escape: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HereDocument {
    delimiter: String,
    /// Whether tabs before the delimiter are ignored, by `<<-`.
    strips_tabs: bool,
    /// The quotation mark of the delimiter that is open.
    quote: Option<char>,
    /// Whether a part of the delimiter is quoted, so that the text is taken as it is.
    is_quoted: bool,
    progress: Progress,
}

/// How much of the operator and the word that announce a here document is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
enum Progress {
    /// `<<`
    #[default]
    Operator,
    /// `<<-`, or white space after the operator.
    AfterOperator,
    Word,
}

// === impl Shell ===

impl Shell {
    /// Reads a character of the operator or the word that announce a here document. Returns whether
    /// it is a part of them.
    fn read_operator(&mut self, c: char) -> bool {
        let Some(document) = &mut self.operator else {
            return false;
        };
        match c {
            // `<<<` is no here document.
            '<' if document.progress == Progress::Operator => self.operator = None,
            // The end of the document is not known.
            VALUE => self.is_unknown = true,
            '-' if document.progress == Progress::Operator => {
                document.strips_tabs = true;
                document.progress = Progress::AfterOperator;
            }
            ' ' | '\t' if document.progress < Progress::Word => {
                document.progress = Progress::AfterOperator;
            }
            '\'' | '"' if document.quote.is_none_or(|quote| quote == c) => {
                document.quote = document.quote.xor(Some(c));
                document.progress = Progress::Word;
                document.is_quoted = true;
            }
            '\\' if document.quote != Some('\'') => {
                document.progress = Progress::Word;
                document.is_quoted = true;
            }
            _ if document.quote.is_none() && (c.is_whitespace() || ";&|()<>".contains(c)) => {
                self.announced.extend(self.operator.take());
                return false;
            }
            _ => {
                document.delimiter.push(c);
                document.progress = Progress::Word;
                self.is_unknown |= document.delimiter.len() > MAX_DELIMITER_BYTES;
            }
        }
        true
    }

    fn end_line(&mut self) {
        if self.open.last() == Some(&Open::Comment) {
            self.open.pop();
        }
        if let Some(document) = self.announced.pop_front() {
            self.push(Open::Here(document, HereLine::default()));
        }
    }

    /// Reads the text of a here document.
    fn read_here(&mut self, c: char) {
        let Some(Open::Here(document, line)) = self.open.last_mut() else {
            return;
        };
        if c != '\n' {
            line.is_escape = c == '\\' && !line.is_escape;
            if line.text.len() <= MAX_DELIMITER_BYTES {
                line.text.push(c);
            }
            return;
        }
        if line.is_escape && !document.is_quoted {
            // It joins the next line.
            line.is_escape = false;
            return;
        }
        let line = std::mem::take(line).text;
        let text = if document.strips_tabs {
            line.trim_start_matches('\t')
        } else {
            &line
        };
        if text == document.delimiter {
            self.open.pop();
            self.end_line();
        }
    }

    fn push(&mut self, open: Open) {
        self.open.push(open);
        self.is_unknown |= self.open.len() + self.announced.len() > MAX_DEPTH;
    }

    /// Reads a character where quotation marks are read.
    fn read_code(&mut self, c: char) {
        let [last, before_last, ..] = self.last;
        let is_word_start = last.is_none_or(|last| last.is_whitespace() || ";&|()".contains(last));
        match c {
            '\\' => self.is_escape = true,
            // `$$` is a number.
            '\'' if last == Some('$') && before_last == Some('$') => self.is_unknown = true,
            '\'' if last == Some('$') => self.push(Open::DollarSingle),
            '\'' => self.push(Open::Single),
            '"' => self.push(Open::Double),
            '`' => self.push(Open::Backtick),
            '#' if is_word_start => self.push(Open::Comment),
            '\n' => self.end_line(),
            // The parentheses of its patterns close nothing.
            'e' if self.is_after_word("cas")
                && matches!(self.open.last(), Some(Open::Substitution(_))) =>
            {
                self.is_unknown = true;
            }
            '[' if last == Some('$') => self.push(Open::Brackets(1)),
            '{' if last == Some('$') => self.open_expansion(before_last),
            '<' if last == Some('<') && before_last != Some('<') => {
                self.operator = Some(HereDocument::default());
            }
            '(' => self.open_parenthesis(last),
            ')' => self.close_parenthesis(),
            _ => {}
        }
    }

    /// Returns whether these three characters, after the start of a word, come before this one.
    fn is_after_word(&self, start: &str) -> bool {
        let [c, b, a, before] = self.last;
        let is_start = before.is_none_or(|c| c.is_whitespace() || ";&|(`".contains(c));
        is_start && start.chars().map(Some).eq([a, b, c])
    }

    fn open_parenthesis(&mut self, last: Option<char>) {
        match self.open.last_mut() {
            Some(Open::Substitution(depth)) if last == Some('(') => {
                *depth -= 1;
                if *depth == 0 {
                    self.open.pop();
                }
                self.push(Open::Arithmetic(2));
            }
            _ if last == Some('$') => self.push(Open::Substitution(1)),
            _ if last == Some('(') => self.push(Open::Arithmetic(2)),
            Some(Open::Substitution(depth)) => *depth += 1,
            _ => {}
        }
    }

    fn open_expansion(&mut self, before_dollar: Option<char>) {
        // `$$` is a number.
        self.is_unknown |= before_dollar == Some('$');
        self.push(Open::Expansion);
    }

    /// Reads a character of `${...}` outside of quotation marks.
    fn read_expansion(&mut self, c: char) {
        let [last, before_last, ..] = self.last;
        match c {
            '\\' => self.is_escape = true,
            '}' => drop(self.open.pop()),
            '\'' if last == Some('$') => self.is_unknown = true,
            '\'' => self.push(Open::Single),
            '"' => self.push(Open::Double),
            '`' => self.push(Open::Backtick),
            '(' if last == Some('$') => self.push(Open::Substitution(1)),
            '{' if last == Some('$') => self.open_expansion(before_last),
            // Shells differ in whether it counts.
            '{' => self.is_unknown = true,
            _ => {}
        }
    }

    /// Reads a character of `((...))`.
    fn read_arithmetic(&mut self, c: char) {
        let Some(Open::Arithmetic(depth)) = self.open.last_mut() else {
            return;
        };
        match c {
            '(' if *depth > 1 => *depth += 1,
            ')' => self.close_parenthesis(),
            // It does not end with `))`, or could be a command.
            _ if *depth == 1 || "'\"`\\;".contains(c) => self.is_unknown = true,
            _ => {}
        }
    }

    fn close_parenthesis(&mut self) {
        if let Some(Open::Substitution(depth) | Open::Arithmetic(depth) | Open::Brackets(depth)) =
            self.open.last_mut()
        {
            *depth -= 1;
            if *depth == 0 {
                self.open.pop();
            }
        }
    }
}

impl Lexer for Shell {
    fn read(&mut self, c: char) {
        if self.is_unknown || c == '\r' {
            return;
        }
        if std::mem::take(&mut self.is_escape) {
            // A word goes on after it; the end of a line counts as nothing.
            if c == '\n' {
                self.last.rotate_left(1);
                self.last[3] = None;
            } else {
                self.last = [Some('\\'), None, None, None];
            }
            return;
        }
        if self.read_operator(c) {
            self.last = [Some('\\'), None, None, None];
            return;
        }
        match self.open.last_mut() {
            Some(Open::Here(..)) => self.read_here(c),
            Some(Open::Comment) if c == '\n' => self.end_line(),
            Some(Open::Single) if c == '\'' => drop(self.open.pop()),
            Some(Open::Comment | Open::Single) => {}
            Some(Open::DollarSingle | Open::Double | Open::Backtick) if c == '\\' => {
                self.is_escape = true;
            }
            Some(Open::DollarSingle) if c == '\'' => drop(self.open.pop()),
            Some(Open::Double) if c == '"' => drop(self.open.pop()),
            Some(Open::Backtick) if c == '`' => drop(self.open.pop()),
            Some(Open::Double) if c == '`' => self.push(Open::Backtick),
            Some(Open::Double) if c == '{' && self.last[0] == Some('$') => {
                self.push(Open::Parameter);
            }
            Some(Open::Parameter) if c == '}' => drop(self.open.pop()),
            Some(Open::Expansion) => self.read_expansion(c),
            Some(Open::Parameter) if c == '(' && self.last[0] == Some('$') => {
                self.push(Open::Substitution(1));
            }
            Some(Open::Parameter) if c == '{' && self.last[0] == Some('$') => {
                self.push(Open::Parameter);
            }
            Some(Open::Parameter) if c == '\\' => self.is_escape = true,
            Some(Open::Parameter) if c == '\'' => self.push(Open::ParameterQuote),
            Some(Open::Parameter) => self.is_unknown |= "\"`{".contains(c),
            Some(Open::ParameterQuote) if c == '\'' => drop(self.open.pop()),
            // Shells differ in whether these mean something here.
            Some(Open::ParameterQuote) => self.is_unknown |= "\"`{}$\\".contains(c),
            Some(Open::Double) if c == '(' && self.last[0] == Some('$') => {
                self.push(Open::Substitution(1));
            }
            Some(Open::DollarSingle | Open::Double | Open::Backtick) => {}
            Some(Open::Arithmetic(_)) => self.read_arithmetic(c),
            Some(Open::Brackets(depth)) if c == '[' => *depth += 1,
            Some(Open::Brackets(_)) if c == ']' => self.close_parenthesis(),
            Some(Open::Brackets(_)) => {}
            Some(Open::Substitution(_)) | None => self.read_code(c),
        }
        self.last.rotate_right(1);
        self.last[0] = Some(c);
    }

    fn reads_quotes(&self) -> bool {
        !self.is_unknown
            && !self.is_escape
            && self.operator.is_none()
            && self.last[0] != Some('$')
            && matches!(
                self.open.last(),
                None | Some(Open::Substitution(_) | Open::Comment)
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_quotes(text: &str) -> bool {
        let mut shell = Shell::default();
        text.chars().for_each(|c| shell.read(c));
        shell.reads_quotes()
    }

    #[test]
    fn a_word_is_quoted_outside_of_other_quotation_marks() {
        for text in [
            "",
            "echo ",
            "a=",
            "echo 'b' \"c\" `d` ",
            "echo \\\" ",
            "echo \"\\\"\" ",
            "echo $'it\\'s' ",
            "a=\"$(echo ",
            "a=\"$(echo \"$(b)\" (c) ",
            "# it's \"\necho ",
            "echo a#'b' ",
            "echo ${#a} $# ",
            "cat <<EOF\n'\"\nEOF\necho ",
            "cat <<-'E F'\n\"\n\tE F\necho ",
            "cat <<\\EOF\n\"\nEOF\n",
            "cat <<A <<\"B\"\nB\n'\nA\n'\nB\necho ",
            "cat <<EOF; echo ",
            "cat <<< 'a'\necho ",
            "echo $((1 << 2))\necho ",
            "((a <<= 1))\necho ",
            "echo $((2 * (1 + 1))) ",
            "case a in a) echo ",
            "echo a \\\n# don't\necho ",
            "echo \"${a%.b}\" ",
            "echo \"${1:-$HOME}${1:-${a:-$(b \"c\")}}\" ",
            "key=${line%% #*} echo ",
            "echo ${product%%(*} $(echo ${product%%(*}) ",
            "echo ${a:1<<0}\n0}\necho ",
            "echo ${1:-\"${2:-b}\"} ",
            "cat <<EOF\nC:\\\\\nEOF\necho ",
            "cat << -EOF\n\"\n-EOF\necho ",
            "((a)) && echo ",
            "echo \"${raw//\\\"/}\" ",
            "echo \"${a:-'none'}\" ",
            "echo $[1 << 2] $[(1)]\necho ",
            "cat <<'EOF'\n\\\nEOF\n",
            "(incase) ",
            "a() ( echo ",
            "%post\necho ",
        ] {
            assert!(reads_quotes(text), "{text:?}");
        }
    }

    #[test]
    fn a_quoted_word_is_text_inside_of_other_quotation_marks() {
        for text in [
            "echo \"",
            "echo '",
            "echo $'it\\'s ",
            "echo `a ",
            "echo `a 'b ",
            "sh -c 'echo ",
            "echo \"$(a) ",
            "echo \"`a` ",
            "echo $((",
            "((a = ",
            "cat <<EOF\n",
            "cat <<'EOF'\n",
            "cat <<EOF\n$(echo ",
            "cat <<EOF\n EOF\n",
            "cat <<A <<B\nA\n",
            "cat <<EOF | sh\n",
            "cat <<",
            "echo \\",
            "echo $",
            "cat <<\u{1}\n\u{1}\n",
            "echo \"$(case a in a) echo b;; esac) ",
            "echo \"${a%'\"'} ",
            "echo \"${a%'}'} ",
            "echo \"${a:-'none ",
            "echo \"${1:-\"a\"} ",
            "cat <<EOF\n\\\nEOF\n",
            "echo $$'a\\' ",
            "echo $[",
            "k=${l%% #*}; echo \"$k ",
            "model=\"$(echo ${product%%(*} | xargs)\"; echo \"",
            "((echo a); echo \"b)\"; echo \"",
            "((echo a; echo ",
            "cat <<EOF\nC:\\\\\nEOF\necho \"\ncat <<'EOF'\n",
            "cat << -EOF\nEOF\n",
            "echo ${a:-",
            "echo ${a:-{} ",
            "echo $${",
        ] {
            assert!(!reads_quotes(text), "{text:?}");
        }
        let deep = "\"$(".repeat(MAX_DEPTH);
        assert!(!reads_quotes(&deep));
    }
}
