use serde_json::Value;

use super::*;

fn report<T>(texts: &[(&str, &str)], is_strict: bool, show: impl Fn(&Report<'_>) -> T) -> T {
    let sources = texts.iter().map(|(name, text)| Source { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    let mut batch = Batch::of(sources);
    batch.survey(&Progress::silent());
    show(&Report { batch: &batch, is_strict })
}

fn shown(text: &str) -> String {
    report(&[("a.yaml", text)], false, |report| text::write(report, Style::plain()))
}
