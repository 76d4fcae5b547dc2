//! Explains why a template can't be compiled: where to look, and how to serve what belongs to
//! another tool.
//!
//! Many configs contain `{{` for another program: docker's `--format`, Prometheus rules, jobs of
//! GitHub Actions. The engine reports such text as a syntax error at the place where it gave up,
//! often far below. Here the error is placed at the tag that it is about.

use minijinja::machinery::{Span, Token, tokenize};

use super::{describe, syntax};

/// Maximum number of characters of a tag that an error quotes.
const MAX_TAG_CHARS: usize = 60;
/// Statements that need an end.
const BLOCKS: [&str; 4] = ["if", "for", "with", "set"];
/// Words that start an action of a Go template (`go:text/template`, `helm:pkg/engine`).
const GO_WORDS: [&str; 12] = [
    "range", "if", "else", "end", "with", "template", "define", "block", "include", "printf",
    "toYaml", "json",
];
/// Variables of Ansible.
const ANSIBLE_NAMES: [&str; 5] = [
    "ansible_",
    "inventory_hostname",
    "hostvars",
    "groups[",
    "lookup(",
];

/// A fault of a template, and the byte of its source where it is.
#[derive(Debug)]
pub(super) struct LocatedError {
    at: Option<usize>,
    reason: String,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It does not parse.
    Syntax,
    /// It parses, and uses a name that does not exist.
    UnknownName,
    /// It parses, and breaks a rule.
    Rule,
}

/// A tag, from its delimiter on.
struct Tag<'s> {
    source: &'s str,
    start: usize,
}

/// Where a source has tags, up to some byte.
#[derive(Default)]
struct Scan {
    last_tag: Option<usize>,
    is_tag_open: bool,
    /// The statements that have not ended, outermost first.
    open: Vec<(&'static str, usize)>,
    /// A `{% raw %}` that does not end.
    open_raw: Option<usize>,
}

// === impl LocatedError ===

impl LocatedError {
    /// A broken rule.
    pub(super) fn new(at: Option<usize>, reason: String) -> Self {
        Self {
            at,
            reason,
            cause: Cause::Rule,
        }
    }

    /// A broken rule, at the start of this span.
    pub(super) fn at(span: Span, reason: String) -> Self {
        Self::new(Some(span.start_offset as usize), reason)
    }

    /// A name that does not exist.
    pub(super) fn unknown_name(span: Span, reason: String) -> Self {
        Self {
            cause: Cause::UnknownName,
            ..Self::at(span, reason)
        }
    }

    /// An error of the engine's tokenizer or parser.
    pub(super) fn syntax(error: &minijinja::Error) -> Self {
        Self {
            at: error.range().map(|range| range.start),
            reason: describe(error),
            cause: Cause::Syntax,
        }
    }

    /// Returns the line, counted from 1 if known, and the message for the author.
    pub(super) fn explain(self, source: &str, is_script: bool) -> (Option<usize>, String) {
        let Self { at, reason, cause } = self;
        let line = |at: usize| Some(line_of(source, at));
        match cause {
            Cause::Rule => (at.and_then(line), reason),
            Cause::UnknownName => {
                let tag = at.and_then(|at| Scan::until(source, at).tag(source));
                let reason = match tag.and_then(|tag| tag.of_another_tool(&reason)) {
                    Some(reason) => reason,
                    None if is_script || reason.contains("did you mean") => reason,
                    None => format!("{reason}; {}", keep_unchanged("text with {{")),
                };
                (at.and_then(line), reason)
            }
            Cause::Syntax => explain_syntax(source, at, reason),
        }
    }
}

fn explain_syntax(source: &str, at: Option<usize>, reason: String) -> (Option<usize>, String) {
    let is_at_end = at.is_none() || reason.starts_with("unexpected end of input");
    let scan = Scan::until(
        source,
        if is_at_end {
            usize::MAX
        } else {
            at.unwrap_or(0)
        },
    );
    let line = |at: usize| Some(line_of(source, at));
    if let Some(start) = scan.open_raw {
        let reason = "{% raw %} is not closed; add {% endraw %}";
        return (line(start), reason.to_owned());
    }
    if is_at_end
        && !scan.is_tag_open
        && let Some((name, start)) = scan.open.last()
    {
        let tag = Tag {
            source,
            start: *start,
        };
        let reason = format!("`{}` is not closed; add {{% end{name} %}}", tag.text());
        return (line(*start), reason);
    }
    let Some(tag) = scan.tag(source) else {
        return (at.and_then(line), reason);
    };
    let start = line(tag.start);
    if let Some(reason) = tag.of_another_tool(&reason) {
        return (start, reason);
    }
    let name = reason.strip_prefix("unknown statement ");
    if name.is_some_and(|name| matches!(name, "extends" | "block" | "import" | "from")) {
        let hint = "to share text, write {% include \"NAME\" %} with the name of a config";
        return (start, format!("{reason}; {hint}"));
    }
    let reason = format!(
        "{reason} in `{}`; {}",
        tag.text(),
        keep_unchanged(&format!("text with {}", tag.delimiter()))
    );
    (start, reason)
}

fn keep_unchanged(what: &str) -> String {
    format!("to serve {what} unchanged, put it between {{% raw %}} and {{% endraw %}}")
}

/// Returns the line of a byte, counted from 1.
pub(super) fn line_of(source: &str, at: usize) -> usize {
    let before = &source.as_bytes()[..at.min(source.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

// === impl Scan ===

impl Scan {
    /// Scans the tags that start at this byte or before it.
    fn until(source: &str, at: usize) -> Self {
        let mut scan = Self::default();
        let mut end = 0;
        let mut tokens = tokenize(source, false, syntax()).peekable();
        while let Some(token) = tokens.next() {
            let Ok((token, span)) = token else {
                // The tokenizer reads a raw block at once.
                if !scan.is_tag_open {
                    scan.open_raw = source[end..].find("{%").map(|start| end + start);
                }
                break;
            };
            let start = span.start_offset as usize;
            if start > at {
                break;
            }
            end = span.end_offset as usize;
            match token {
                Token::VariableStart => (scan.last_tag, scan.is_tag_open) = (Some(start), true),
                Token::BlockStart => {
                    (scan.last_tag, scan.is_tag_open) = (Some(start), true);
                    if let Some(Ok((Token::Ident(name), _))) = tokens.peek() {
                        scan.statement(name, start);
                    }
                }
                Token::VariableEnd | Token::BlockEnd => scan.is_tag_open = false,
                // `{% set x = 1 %}` has no end.
                Token::Assign
                    if scan.open.last() == scan.last_tag.map(|at| ("set", at)).as_ref() =>
                {
                    scan.open.pop();
                }
                _ => {}
            }
        }
        scan
    }

    fn statement(&mut self, name: &str, start: usize) {
        if let Some(block) = BLOCKS.iter().find(|block| **block == name) {
            self.open.push((block, start));
        } else if let Some(ended) = name.strip_prefix("end")
            && self.open.last().is_some_and(|(open, _)| *open == ended)
        {
            self.open.pop();
        }
    }

    fn tag<'s>(&self, source: &'s str) -> Option<Tag<'s>> {
        let start = self.last_tag?;
        Some(Tag { source, start })
    }
}

// === impl Tag ===

impl<'s> Tag<'s> {
    fn delimiter(&self) -> &'s str {
        &self.source[self.start..self.start + 2]
    }

    /// Returns the tag, as far as it is on one line, and whether that is all of it.
    fn shown(&self) -> (&'s str, bool) {
        let text = self.source[self.start..].lines().next().unwrap_or_default();
        let close = if self.delimiter() == "{{" { "}}" } else { "%}" };
        let (text, is_whole) = match text.find(close) {
            Some(end) => (&text[..end + close.len()], true),
            None => (text.trim_end(), false),
        };
        match text.char_indices().nth(MAX_TAG_CHARS) {
            Some((end, _)) => (&text[..end], false),
            None => (text, is_whole),
        }
    }

    fn text(&self) -> String {
        match self.shown() {
            (text, true) => text.to_owned(),
            (text, false) => format!("{text}..."),
        }
    }

    /// Returns the message for a tag that was written for another tool, if it looks like that.
    fn of_another_tool(&self, reason: &str) -> Option<String> {
        let tool = self.tool()?;
        let what = if self.delimiter() == "{{" {
            "an expression"
        } else {
            "a statement"
        };
        let reason = reason.split(" (configs of this Profile").next()?;
        let remedy = match self.shown() {
            (text, true) => {
                format!("to serve it unchanged, write {{% raw %}}{text}{{% endraw %}}")
            }
            _ => keep_unchanged("it"),
        };
        Some(format!(
            "`{}` looks like {tool}, but {} starts {what} of shaper's own templates here: {reason}; {remedy}",
            self.text(),
            self.delimiter()
        ))
    }

    /// Returns the tool that the tag was probably written for.
    fn tool(&self) -> Option<&'static str> {
        if self.source[..self.start].ends_with('$') {
            return Some("an expression of GitHub Actions");
        }
        if self.source.starts_with("## template: jinja") {
            return Some("a template of cloud-init");
        }
        let inside = &self.shown().0[2..];
        if inside.starts_with(['{', '#', '>', '!', '^', '&', '/']) && !inside.starts_with("/*") {
            return Some("a template of Mustache or Handlebars");
        }
        let text = inside
            .trim_end_matches(['}', '%'])
            .trim_matches(['-', ' ', '\t']);
        let word = text.split([' ', '\t', '(', '|', '.']).next()?;
        if matches!(word, "v1" | "ds") {
            return Some("a template of cloud-init");
        }
        if ANSIBLE_NAMES.iter().any(|name| text.starts_with(name)) {
            return Some("a template of Ansible");
        }
        // `.Field`, `$variable`
        let mut words = text.split([' ', '\t', '(']);
        let is_go = words.any(|word| word.starts_with(['.', '$']) || word == ":=");
        let is_go = is_go || text.starts_with("/*") || GO_WORDS.contains(&word);
        if is_go && self.delimiter() == "{{" {
            return Some("a Go template, as Docker, Prometheus and Helm have them");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::*;

    fn explained(source: &str) -> (usize, String) {
        let error = parse(source, "template", syntax()).expect_err("it does not parse");
        let (line, reason) = LocatedError::syntax(&error).explain(source, false);
        (line.expect("the line is known"), reason)
    }

    #[test]
    fn an_error_names_the_tool_that_a_tag_was_written_for() {
        for (source, tool) in [
            ("a\nb {{ trunc 4 .MachineID }}\n\n", "a Go template"),
            ("\nx: {{ $labels.instance }}", "a Go template"),
            ("\nx: \"{{.State.Running}}\"", "a Go template"),
            ("\nx: '{{json .}}'", "a Go template"),
            ("\n{{- range $i := .Items }}x{{ end }}", "a Go template"),
            ("\n{{ $x := 1 }}", "a Go template"),
            ("\n{{#each items}}x{{/each}}", "Handlebars"),
            ("\n{{{ name }}}", "Handlebars"),
            ("\nsha: ${{ github.sha == }}", "GitHub Actions"),
        ] {
            let (line, reason) = explained(source);
            assert_eq!(line, 2, "{source}: {reason}");
            assert!(reason.contains(tool), "{source}: {reason}");
            assert!(reason.contains("{% raw %}{{"), "{source}: {reason}");
        }
        let (_, reason) = explained("## template: jinja\n{{ ds.meta_data.x y }}");
        assert!(reason.contains("a template of cloud-init"), "{reason}");
    }

    #[test]
    fn an_error_is_at_the_tag_that_does_not_end() {
        for (source, line, says) in [
            ("a\n{{ b\n\nc\n", 2, "`{{ b...`"),
            ("a\n{{ 'b }}\n\nc\n", 2, "`{{ 'b }}`"),
            (
                "{% if a %}\n{% if b %}\n{% endif %}\n\n",
                1,
                "`{% if a %}` is not closed; add {% endif %}",
            ),
            (
                "\n{% set a %}\n{% set b = 1 %}\n{% for c in d %}{% endfor %}\n",
                2,
                "add {% endset %}",
            ),
            (
                "\na\n{%- raw %}\n{{ b }}\n\n",
                3,
                "{% raw %} is not closed; add {% endraw %}",
            ),
            ("\n{% extends \"a\" %}\n", 2, "write {% include \"NAME\" %}"),
        ] {
            let (found, reason) = explained(source);
            assert_eq!(found, line, "{source}: {reason}");
            assert!(reason.contains(says), "{source}: {reason}");
        }
    }

    #[test]
    fn a_long_tag_is_quoted_in_part() {
        let (_, reason) = explained(&format!("{{{{ .{} }}}}", "a".repeat(10_000)));
        assert!(reason.len() < 500, "{} bytes", reason.len());
        assert!(reason.contains("put it between {% raw %} and {% endraw %}"));
    }
}
