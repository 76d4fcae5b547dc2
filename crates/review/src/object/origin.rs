//! Maps a line of a rendered script to the line of the template that produced it.

use std::ops::Range;

/// The origin of a script line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The template line, counted from 1, and the marked columns, if the template line has the same
    /// text there.
    Known {
        line: usize,
        columns: Option<Range<usize>>,
    },
    /// Several template lines could have produced it, or no single one.
    Unknown,
}

/// Finds the only template line that could have produced this line, the `number`th of the script.
pub(super) fn of(source: &str, number: usize, line: &str, columns: &Range<usize>) -> Origin {
    let lines: Vec<&str> = source
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .collect();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let matches_line = |at: usize| {
        lines
            .get(at)
            .is_some_and(|template| could_render_to(template, line))
    };
    let candidates: Vec<usize> = (0..lines.len()).filter(|at| matches_line(*at)).collect();
    // Among several candidates, takes the one at the same index, if each line before it renders to
    // one line.
    let in_place = || {
        let is_plain = lines.iter().take(number).all(|line| !line.contains("{%"));
        (is_plain && matches_line(number - 1)).then_some(number - 1)
    };
    let at = match candidates.as_slice() {
        [at] => *at,
        // Equal template lines need the same fix, so the first of them is reported.
        [first, ..] => in_place().unwrap_or(*first),
        [] => return Origin::Unknown,
    };
    let template = lines[at];
    if template == line {
        return Origin::Known {
            line: at + 1,
            columns: Some(columns.clone()),
        };
    }
    let meant: String = line
        .chars()
        .skip(columns.start - 1)
        .take(columns.len())
        .collect();
    let mut places = template
        .match_indices(&meant)
        .map(|(at, _)| template[..at].chars().count() + 1);
    let columns = match (places.next(), places.next()) {
        (Some(start), None) if !meant.is_empty() => Some(start..start + meant.chars().count()),
        _ => None,
    };
    Origin::Known {
        line: at + 1,
        columns,
    }
}

/// Whether a template line could render to this line: the line contains the texts between its
/// expressions, in order.
fn could_render_to(template: &str, line: &str) -> bool {
    if template.contains("{%") {
        return false;
    }
    let mut texts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        texts.push(&rest[..start]);
        let Some(end) = rest[start..].find("}}") else {
            return false;
        };
        rest = &rest[start + end + 2..];
    }
    let (Some(first), last) = (texts.first(), rest) else {
        return template == line;
    };
    let Some(mut between) = line.strip_prefix(first) else {
        return false;
    };
    for text in &texts[1..] {
        let Some(at) = between.find(text) else {
            return false;
        };
        between = &between[at + text.len()..];
    }
    // A line that is a single expression could produce any line.
    between.ends_with(last)
        && texts
            .iter()
            .chain([&last])
            .any(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_line_maps_to_the_only_template_line_that_could_produce_it() {
        let source = "#!ipxe\n{% for n in range(2) %}\nimgfetch {{ n }}\n{% endfor %}\nkernel {{ base_url }}/k a||\nboot\nboot\n{{ subject.x }}";
        let known = |number, line, columns| of(source, number, line, &columns);
        assert_eq!(
            known(9, "imgfetch 1", 1..9),
            Origin::Known {
                line: 3,
                columns: Some(1..9)
            }
        );
        assert_eq!(
            known(9, "kernel http://h/k a||", 19..22),
            Origin::Known {
                line: 5,
                columns: Some(25..28)
            }
        );
        assert_eq!(
            known(9, "kernel http://h/k a||", 8..18),
            Origin::Known {
                line: 5,
                columns: None
            }
        );
        assert_eq!(
            known(9, "boot", 1..5),
            Origin::Known {
                line: 6,
                columns: Some(1..5)
            }
        );
        assert_eq!(known(9, "what else", 1..5), Origin::Unknown);
        assert_eq!(
            of("#!ipxe\nboot\nboot", 3, "boot", &(1..5)),
            Origin::Known {
                line: 3,
                columns: Some(1..5)
            }
        );
    }
}
