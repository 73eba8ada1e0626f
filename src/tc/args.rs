//! A cursor over the words of one command, with iproute2's way of running out of them. It knows no word's meaning.

use super::error::TcError;
use super::number;
use super::script::Token;

/// The words of one command and a position in them.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    tokens: &'a [Token],
    position: usize,
    /// What tc has printed to stderr so far.
    pub stderr: Vec<String>,
}

impl<'a> Args<'a> {
    /// At the first word.
    #[must_use]
    pub fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, position: 0, stderr: Vec::new() }
    }

    /// Index of the current word; the number of words at the end.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The current word, if any is left.
    #[must_use]
    pub fn word(&self) -> Option<&'a str> {
        self.tokens.get(self.position).map(|t| t.text.as_str())
    }

    /// `argc`: how many words are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.tokens.len().saturating_sub(self.position)
    }

    /// `argc--; argv++`.
    pub fn skip(&mut self) {
        self.position = (self.position + 1).min(self.tokens.len());
    }

    /// All words from the current one on.
    #[must_use]
    pub fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.position..).unwrap_or(&[])
    }

    /// Goes on by so many words, at most to the end.
    pub fn advance(&mut self, count: usize) {
        self.position = (self.position + count).min(self.tokens.len());
    }

    /// `NEXT_ARG()`: the next word.
    ///
    /// # Errors
    /// "Command line is not complete" at the end of the line.
    pub fn next_word(&mut self) -> Result<&'a str, TcError> {
        self.skip();
        self.word().ok_or_else(|| TcError::incomplete(self.tokens.len()))
    }

    /// Whether the current word is exactly this.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    /// Whether the current word is a prefix of this (`matches()`).
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        self.word().is_some_and(|w| number::matches(w, word))
    }
}
