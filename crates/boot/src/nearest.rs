//! Suggestions for mistyped names.

/// Returns ` (did you mean X?)` for the candidate nearest to `word`, or nothing if none is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// Maximum length of a word, in bytes. The search takes time and memory proportional to the product
/// of the two lengths.
const MAX_WORD_BYTES: usize = 253;

/// Returns the candidate with the fewest typing errors, if they are at most a third of its length.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let folded = word.to_lowercase();
    let distance =
        |candidate: &str| strsim::damerau_levenshtein(&folded, &candidate.to_lowercase());
    let scored = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_WORD_BYTES)
        .map(|candidate| (distance(candidate), candidate));
    scored
        .filter(|(errors, candidate)| *errors <= candidate.chars().count().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_typo_finds_the_nearest_name() {
        assert_eq!(nearest("subjet", ["subject", "profile"]), Some("subject"));
        assert_eq!(nearest("Subject", ["subject", "profile"]), Some("subject"));
        assert_eq!(nearest("weather", ["subject", "profile"]), None);
    }
}
