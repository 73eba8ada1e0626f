//! Actions and matches as words of a tc command: what the parsers of this module would read back. What tc has no words for is said.

mod action;
mod ematch;
mod filter;
mod flower;
mod pedit;
mod police;

pub use action::{action, extras};
pub use ematch::ematches;
pub use filter::{protocol, u32_descent, u32_keys, u32_mark};
pub use flower::flower;

#[cfg(test)]
mod tests;

/// What tc has no words for: the kernel can hold it, and only another program can have made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}, which tc has no words for")]
pub struct Unsayable(pub String);

/// A word as a shell and [`super::script`] read it: in quotes if it must be.
///
/// # Errors
/// It holds a character that cannot stand in a line.
pub fn quoted(word: &str) -> Result<String, Unsayable> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:@%+,=/^-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.to_owned());
    }
    let has = |bad: &str| word.chars().any(|c| c.is_control() || c == '\u{fffd}' || bad.contains(c));
    match (has("'"), has("\"$`\\!")) {
        (false, _) => Ok(format!("'{word}'")),
        (true, false) => Ok(format!("\"{word}\"")),
        (true, true) => Err(Unsayable(format!("the word {word:?}"))),
    }
}
