//! Checks the tokens of a template before it is parsed.

use minijinja::machinery::{Token, tokenize};

use super::check::reject;
use super::diagnosis::LocatedError;
use super::syntax;

/// Maximum number of tokens between a pair of delimiters. The parser recurses over them, and its
/// stack is finite.
const MAX_TOKENS: usize = 500;
/// Maximum number of tokens in a template, other than text. A parsed token takes a hundred bytes of
/// memory or more, and several passes over it.
const MAX_ALL_TOKENS: usize = 200_000;
/// Maximum number of `elif`s in a template, for the same reason.
const MAX_ELIFS: usize = 128;
/// Maximum length of a name, in bytes; a lookup compares it at every instruction. Label keys are no
/// longer than this.
const MAX_NAME_BYTES: usize = 253;

/// Checks that a template's expressions are short enough to be parsed.
pub(super) fn check(source: &str) -> Result<(), LocatedError> {
    let (mut tokens, mut all) = (0, 0);
    let mut elifs = 0;
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|error| LocatedError::syntax(&error))?;
        tokens += 1;
        all += usize::from(!matches!(token, Token::TemplateData(_)));
        match token {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => tokens = 0,
            Token::Ident("elif") => elifs += 1,
            Token::Ident(name) if name.len() > MAX_NAME_BYTES => {
                return reject(
                    span,
                    format!(
                        "a name has {} bytes; the limit is {MAX_NAME_BYTES}",
                        name.len()
                    ),
                );
            }
            _ => {}
        }
        if tokens > MAX_TOKENS {
            return reject(
                span,
                format!(
                    "an expression has more than {MAX_TOKENS} tokens; split it with {{% set %}}"
                ),
            );
        }
        if all > MAX_ALL_TOKENS {
            return reject(
                span,
                format!(
                    "the expressions and statements of the template have more than {MAX_ALL_TOKENS} tokens; divide it into several configs"
                ),
            );
        }
        if elifs > MAX_ELIFS {
            return reject(
                span,
                format!(
                    "the template has more than {MAX_ELIFS} elif branches; write a Profile for each case instead"
                ),
            );
        }
    }
    Ok(())
}
