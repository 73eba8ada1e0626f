//! The words of an expression, from tc's arguments (tc/emp_ematch.l). It knows no grammar.
//!
//! tc reads an argument only when it needs one; where an expression ends is told by how far it has read.

use crate::tc::script::Token;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Open,
    Close,
    And,
    Or,
    Not,
    Word(Text),
    /// What tc cannot read.
    Error,
}

/// A word or quoted text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub bytes: Vec<u8>,
    pub quoted: bool,
}

impl Text {
    pub fn is(&self, word: &str) -> bool {
        self.bytes == word.as_bytes()
    }

    /// `bstrtoul()`: the number that it begins with; `None` without digits, and beyond 64 bits.
    pub fn number(&self) -> Option<u64> {
        match leading_number(&self.bytes) {
            Leading::None => None,
            Leading::Number { negative, value } => {
                let value = value.filter(|v| *v != u64::MAX)?;
                let value = if negative { value.wrapping_neg() } else { value };
                (value != u64::MAX).then_some(value)
            }
        }
    }

    /// As tc shows it in messages.
    pub fn shown(&self) -> String {
        shown(&self.bytes)
    }
}

/// Printable ASCII, and dots for the rest.
pub(super) fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect()
}

/// What `strtoul(…, 0)` finds at the start of a text.
pub(super) enum Leading {
    None,
    Number {
        negative: bool,
        /// `None`: beyond 64 bits.
        value: Option<u64>,
    },
}

/// Reads a number in C's notation from the start of a text; what follows it is ignored.
pub(super) fn leading_number(text: &[u8]) -> Leading {
    let text = text.trim_ascii_start();
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (base, digits) = match text {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, &text[2..]),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let mut value = Some(0_u64);
    let mut any = false;
    for digit in digits.iter().map_while(|b| char::from(*b).to_digit(base)) {
        any = true;
        value = value.and_then(|v| v.checked_mul(u64::from(base))?.checked_add(u64::from(digit)));
    }
    if any { Leading::Number { negative, value } } else { Leading::None }
}

/// Reads pieces from arguments.
pub(super) struct Lexer<'a> {
    args: &'a [Token],
    /// How many arguments were read.
    pub taken: usize,
    line: Vec<u8>,
    at: usize,
    /// tc keeps all quoted texts in one buffer: each overwrites the one before. What is in it now.
    pub quoted: Vec<u8>,
    /// What tc says on the way.
    pub messages: Vec<String>,
}

impl<'a> Lexer<'a> {
    pub fn new(args: &'a [Token]) -> Self {
        Self { args, taken: 0, line: Vec::new(), at: 0, quoted: Vec::new(), messages: Vec::new() }
    }

    /// The next piece; `None` at the end.
    pub fn next(&mut self) -> Option<Piece> {
        while self.peek()?.is_ascii_whitespace() {
            self.at += 1;
        }
        let first = self.peek()?;
        self.at += 1;
        Some(match first {
            b'(' => Piece::Open,
            b')' => Piece::Close,
            b'"' => return self.quoted_text(),
            _ => {
                let start = self.at - 1;
                while self.line.get(self.at).is_some_and(|b| !b.is_ascii_whitespace() && !b"()".contains(b)) {
                    self.at += 1;
                }
                word(&self.line[start..self.at])
            }
        })
    }

    /// The next byte; reads another argument if it must. Each ends with a blank.
    fn peek(&mut self) -> Option<u8> {
        while self.at >= self.line.len() {
            let arg = self.args.get(self.taken)?;
            self.taken += 1;
            if !arg.text.is_empty() {
                self.line = arg.text.bytes().chain([b' ']).collect();
                self.at = 0;
            }
        }
        Some(self.line[self.at])
    }

    fn quoted_text(&mut self) -> Option<Piece> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => match self.escape()? {
                    Some(byte) => bytes.push(byte),
                    None => return Some(Piece::Error),
                },
                _ => bytes.push(byte),
            }
        }
        let keep = bytes.len().min(self.quoted.len());
        self.quoted.splice(..keep, bytes.iter().copied());
        Some(Piece::Word(Text { bytes, quoted: true }))
    }

    /// What a `\` means; `Some(None)`: tc cannot read it.
    fn escape(&mut self) -> Option<Option<u8>> {
        let first = self.peek()?;
        self.at += 1;
        let rest = |own: &Self| own.line[own.at..].to_vec();
        Some(match first {
            b'0'..=b'9' => {
                let more = rest(self).iter().take_while(|b| b.is_ascii_digit()).count();
                let digits: Vec<u8> = [&[first], &rest(self)[..more]].concat();
                self.at += more;
                let text = String::from_utf8_lossy(&digits).into_owned();
                let octal = u16::from_str_radix(&text, 8).ok().filter(|_| digits.len() <= 3);
                let Some(octal) = octal else {
                    self.messages.push("error: invalid octale escape sequence".to_owned());
                    return Some(None);
                };
                let byte = u8::try_from(octal).ok();
                if byte.is_none() {
                    self.messages.push("error: octal escape sequence out of range".to_owned());
                }
                byte
            }
            b'x' => {
                let digits: Vec<u8> =
                    rest(self).iter().take(2).take_while(|b| b.is_ascii_hexdigit()).copied().collect();
                self.at += digits.len();
                Some(u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'x'))
            }
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(0x0b),
            b'b' => Some(0x08),
            b'f' => Some(0x0c),
            b'a' => Some(0x07),
            other => Some(other),
        })
    }
}

fn word(bytes: &[u8]) -> Piece {
    match bytes.to_ascii_lowercase().as_slice() {
        b"and" => Piece::And,
        b"or" => Piece::Or,
        b"not" => Piece::Not,
        _ => Piece::Word(Text { bytes: bytes.to_vec(), quoted: false }),
    }
}
