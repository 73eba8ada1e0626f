//! A rules file as lines of words with their places: continuation, comments, simple quoting, variables. It runs no shell.

use std::collections::BTreeMap;

use super::command::{self, Command};
use super::error::{Problem, TcError};

/// A word of a command and where it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word, unquoted, with variables put in.
    pub text: String,
    /// 1-based physical line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Length as written in the file, in characters.
    pub len: usize,
}

/// One logical line: what `\` joins.
#[derive(Clone, Debug)]
pub struct Line {
    /// 1-based number of its first physical line.
    pub number: usize,
    /// The command as written, joined with single spaces where `\` was; variables are not put in.
    pub text: String,
    /// Its words.
    pub tokens: Vec<Token>,
    /// What it says, or why it says nothing.
    pub command: Result<Command, TcError>,
}

/// A rules file, split and parsed.
#[derive(Clone, Debug)]
pub struct Script {
    /// Name of the file, for messages.
    pub file: String,
    /// Its logical lines, without comments and blank lines.
    pub lines: Vec<Line>,
    /// Its physical lines.
    pub source: Vec<String>,
}

/// Splits and parses a rules file. Never fails: a line that cannot be parsed carries its error.
///
/// `env` is what `$NAME` and `${NAME}` stand for; `TC` is `tc` unless given.
#[must_use]
pub fn parse_script(text: &str, file: &str, env: &BTreeMap<String, String>) -> Script {
    let source: Vec<String> = text.lines().map(|l| l.trim_end_matches('\r').to_owned()).collect();
    let mut env = env.clone();
    env.entry("TC".to_owned()).or_insert_with(|| "tc".to_owned());
    let lines = split(text, &env).filter_map(parse_words).collect();
    Script { file: file.to_owned(), lines, source }
}

impl Script {
    /// An error of a line as a place in the file, with the text to underline.
    #[must_use]
    pub fn problem(&self, line: &Line, error: &TcError) -> Problem {
        let place = match error.token {
            Some(index) => line.tokens.get(index).map(|t| (t.line, t.column, t.len)),
            None => None,
        };
        let end = line.tokens.last().map(|t| (t.line, t.column + t.len, 1));
        let first = line.tokens.first().map(|t| (t.line, t.column, self.rest_len(t)));
        let whole = if error.token.is_some() { end } else { first };
        let (number, column, len) = place.or(whole).unwrap_or((line.number, 1, 1));
        Problem {
            line: number,
            column,
            len,
            source: self.source.get(number - 1).cloned().unwrap_or_default(),
            message: summary(&error.messages),
            hint: error.hint.clone(),
        }
    }

    /// Characters from a token to the end of its physical line's text.
    fn rest_len(&self, token: &Token) -> usize {
        let source = self.source.get(token.line - 1).map_or("", |s| s.trim_end().trim_end_matches('\\').trim_end());
        (source.chars().count() + 1).saturating_sub(token.column).max(1)
    }
}

/// The line of tc's output that says what is wrong: not its echo of MAC addresses, not its usage text.
fn summary(messages: &[String]) -> String {
    let noise =
        ["dst MAC address", "src MAC address", "skbmod etype", "Usage:", "We have an error", "bad action", "parse_"];
    let useful = messages.iter().find(|m| !noise.iter().any(|n| m.starts_with(n)));
    useful.or(messages.first()).cloned().unwrap_or_default()
}

/// A logical line split into words, not yet parsed.
#[derive(Clone, Debug)]
pub struct Words {
    /// As [`Line::number`].
    pub number: usize,
    /// As [`Line::text`].
    pub text: String,
    /// As [`Line::tokens`].
    pub tokens: Vec<Token>,
    /// Why it could not be split.
    pub error: Option<TcError>,
}

/// Splits a text into logical lines, one at a time; comment and blank lines between commands are left out.
pub fn split<'a>(text: &'a str, env: &'a BTreeMap<String, String>) -> impl Iterator<Item = Words> + 'a {
    let mut physical = text.lines().map(|l| l.trim_end_matches('\r')).enumerate();
    std::iter::from_fn(move || {
        let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let (start, first) = physical.find(|(_, line)| !is_empty(line))?;
        let mut joined = vec![first];
        while joined.last().is_some_and(|l| continues(l)) {
            let Some((_, next)) = physical.next() else { break };
            joined.push(next);
        }
        Some(split_words(&joined, start + 1, env))
    })
}

/// Whether a physical line goes on in the next: its last character is a `\` that is not itself escaped.
fn continues(line: &str) -> bool {
    line.trim_end().ends_with('\\')
}

fn split_words(physical: &[&str], number: usize, env: &BTreeMap<String, String>) -> Words {
    let text: Vec<&str> = physical.iter().map(|l| l.trim_end().strip_suffix('\\').unwrap_or(l).trim()).collect();
    let text = text.join(" ").trim().to_owned();
    let mut splitter = Splitter { env, tokens: Vec::new(), open_quote: None, error: None };
    for (index, line) in physical.iter().enumerate() {
        let line = if continues(line) { line.trim_end().strip_suffix('\\').unwrap_or(line) } else { line };
        if splitter.split(line, number + index) {
            break;
        }
    }
    let (tokens, error) = splitter.finish();
    Words { number, text, tokens, error }
}

fn parse_words(words: Words) -> Option<Line> {
    let Words { number, text, tokens, error } = words;
    let command = match error {
        Some(error) => Err(error),
        None if tokens.is_empty() => return None,
        None => command::parse(&tokens),
    };
    Some(Line { number, text, tokens, command })
}

/// Splits physical lines into words.
struct Splitter<'a> {
    env: &'a BTreeMap<String, String>,
    tokens: Vec<Token>,
    open_quote: Option<usize>,
    error: Option<TcError>,
}

/// A word in the making.
struct Word {
    text: String,
    column: usize,
    quoted: bool,
}

impl Splitter<'_> {
    /// Takes one physical line; true when a comment ends the logical line.
    fn split(&mut self, line: &str, number: usize) -> bool {
        let chars: Vec<char> = line.chars().collect();
        let mut word: Option<Word> = None;
        let mut at = 0;
        while at < chars.len() && self.error.is_none() {
            let c = chars[at];
            if c.is_whitespace() {
                self.end_word(word.take(), at, number);
                at += 1;
                continue;
            }
            if c == '#' && word.is_none() {
                return true;
            }
            let current = word.get_or_insert_with(|| Word { text: String::new(), column: at + 1, quoted: false });
            match c {
                '\'' | '"' => at = self.quoted(&chars, at, current, number),
                '\\' => {
                    current.text.extend(chars.get(at + 1));
                    at += 2;
                }
                '$' => at = self.variable(&chars, at, current, number),
                ';' | '|' | '&' | '<' | '>' | '`' | '(' | ')' => {
                    self.fail(number, at, format!("\"{c}\" is shell syntax, not tc's"), "write one tc command a line");
                }
                _ => {
                    current.text.push(c);
                    at += 1;
                }
            }
        }
        self.end_word(word, chars.len(), number);
        false
    }

    /// Reads a quoted part; returns the position after it.
    fn quoted(&mut self, chars: &[char], start: usize, word: &mut Word, number: usize) -> usize {
        let quote = chars[start];
        word.quoted = true;
        let mut at = start + 1;
        while at < chars.len() && self.error.is_none() {
            match chars[at] {
                c if c == quote => return at + 1,
                '\\' if quote == '"' && at + 1 < chars.len() => {
                    word.text.push(chars[at + 1]);
                    at += 2;
                }
                '$' if quote == '"' => at = self.variable(chars, at, word, number),
                c => {
                    word.text.push(c);
                    at += 1;
                }
            }
        }
        self.fail(number, start, format!("this {quote} is not closed on its line"), "close the quote");
        chars.len()
    }

    /// Puts a variable in; returns the position after its name.
    fn variable(&mut self, chars: &[char], start: usize, word: &mut Word, number: usize) -> usize {
        let braced = chars.get(start + 1) == Some(&'{');
        let first = if braced { start + 2 } else { start + 1 };
        let len = chars[first..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').count();
        let name: String = chars[first..first + len].iter().collect();
        let end = first + len + usize::from(braced);
        if braced && chars.get(first + len) != Some(&'}') || name.is_empty() {
            self.fail(number, start, "not a variable that viscum understands".to_owned(), "use $NAME or ${NAME}");
            return chars.len();
        }
        match self.env.get(&name) {
            Some(value) => word.text.push_str(value),
            None => self.fail(
                number,
                start,
                format!("variable ${name} is not set"),
                "give it a value (env in the topology file, or the environment)",
            ),
        }
        end
    }

    /// Ends a word; unquoted variables with blanks in them become several words, as in a shell.
    fn end_word(&mut self, word: Option<Word>, end: usize, number: usize) {
        let Some(word) = word else { return };
        let place =
            |text: String| Token { text, line: number, column: word.column, len: (end + 1 - word.column).max(1) };
        if word.quoted {
            self.tokens.push(place(word.text));
        } else {
            self.tokens.extend(word.text.split_whitespace().map(|t| place(t.to_owned())));
        }
    }

    fn fail(&mut self, line: usize, at: usize, message: String, hint: &str) {
        if self.error.is_none() {
            let index = self.tokens.len();
            self.error = Some(TcError::parse(message, index, hint));
            self.tokens.push(Token { text: String::new(), line, column: at + 1, len: 1 });
            self.open_quote = Some(index);
        }
    }

    fn finish(self) -> (Vec<Token>, Option<TcError>) {
        let mut tokens = self.tokens;
        if let (Some(_), Some(index)) = (&self.error, self.open_quote) {
            // Words that were begun before the error are behind its place: drop them, the error is what counts.
            tokens.truncate(index + 1);
        }
        (tokens, self.error)
    }
}
