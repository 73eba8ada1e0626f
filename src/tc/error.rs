//! What is wrong with a line: tc's own words and exit code, plus where it is and what to do. It prints nothing by itself.

use std::fmt::Write as _;

/// Exit codes of tc: 1 it could not parse, 2 the kernel refused, 255 usage.
pub mod exit {
    /// Parse error.
    pub const PARSE: u8 = 1;
    /// Refused by the kernel.
    pub const KERNEL: u8 = 2;
    /// Usage (`exit(-1)`).
    pub const USAGE: u8 = 255;
}

/// A command that tc or the kernel would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.messages.join("\n"))]
pub struct TcError {
    /// tc's exit code.
    pub exit_code: u8,
    /// What tc prints to stderr, line by line (all of it, also what it printed before it failed).
    pub messages: Vec<String>,
    /// What to try next, in our words.
    pub hint: String,
    /// Index of the token that is wrong; `None`: the line as a whole. One past the last token: something is missing there.
    pub token: Option<usize>,
}

impl TcError {
    /// A parse error (exit code 1) at a token.
    #[must_use]
    pub fn parse(message: impl Into<String>, token: usize, hint: impl Into<String>) -> Self {
        Self { exit_code: exit::PARSE, messages: vec![message.into()], hint: hint.into(), token: Some(token) }
    }

    /// A usage error (exit code 255) at a token.
    #[must_use]
    pub fn usage(message: impl Into<String>, token: usize, hint: impl Into<String>) -> Self {
        Self { exit_code: exit::USAGE, messages: vec![message.into()], hint: hint.into(), token: Some(token) }
    }

    /// `invarg()` of iproute2: exit code 255.
    #[must_use]
    pub fn invalid_argument(why: &str, text: &str, token: usize, hint: impl Into<String>) -> Self {
        let mut error = Self::usage(format!("Error: argument \"{text}\" is wrong: {why}"), token, hint);
        error.messages = error.messages[0].split('\n').map(str::to_owned).collect();
        error
    }

    /// `incomplete_command()` of iproute2.
    #[must_use]
    pub fn incomplete(token: usize) -> Self {
        Self::usage(
            "Command line is not complete. Try option \"help\"",
            token,
            "something is missing at the end of the line",
        )
    }

    /// The kernel refused with a text of its own (extended ack).
    #[must_use]
    pub fn kernel(text: &str, hint: impl Into<String>) -> Self {
        Self {
            exit_code: exit::KERNEL,
            messages: vec![format!("Error: {text}."), "We have an error talking to the kernel".to_owned()],
            hint: hint.into(),
            token: None,
        }
    }

    /// The kernel refused with an error number only.
    #[must_use]
    pub fn errno(text: &str, hint: impl Into<String>) -> Self {
        let mut error = Self::kernel("", hint);
        error.messages[0] = format!("RTNETLINK answers: {text}");
        error
    }

    /// Something that tc can do and viscum cannot (yet): refused by name.
    #[must_use]
    pub fn unsupported(what: &str, token: usize) -> Self {
        Self {
            exit_code: exit::KERNEL,
            messages: vec![format!("viscum does not support {what}")],
            hint: "leave this rule to the kernel's own tc, or write it with u32, flower, matchall, basic or fw and gact, mirred, \
                   skbedit, skbmod, csum, pedit, vlan, nat, police or simple"
                .to_owned(),
            token: Some(token),
        }
    }

    /// The same error with another line that tc prints after it.
    #[must_use]
    pub fn then(mut self, message: impl Into<String>) -> Self {
        self.messages.push(message.into());
        self
    }

    /// The same error with one of its lines said in another way.
    #[must_use]
    pub fn renamed(mut self, line: &str, other: &str) -> Self {
        for message in self.messages.iter_mut().filter(|m| *m == line) {
            other.clone_into(message);
        }
        self
    }

    /// The same error with lines that tc printed before it.
    #[must_use]
    pub fn after(mut self, earlier: &[String]) -> Self {
        self.messages.splice(0..0, earlier.iter().cloned());
        self
    }

    /// The same error at a token, unless it has one.
    #[must_use]
    pub fn at(mut self, token: usize) -> Self {
        self.token.get_or_insert(token);
        self
    }
}

/// One bad line of a rules file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// 1-based line of the file; 0: the file as a whole.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub len: usize,
    /// The physical line as it stands in the file.
    pub source: String,
    /// What is wrong.
    pub message: String,
    /// What to try next.
    pub hint: String,
}

/// All bad lines of a rules file. Its `Display` is what a user sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct Diagnostics {
    /// Name of the file, as given.
    pub file: String,
    /// One entry per bad line, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Diagnostics {
    /// Diagnostics about the file as a whole.
    #[must_use]
    pub fn whole_file(file: &str, message: &str, hint: &str) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            len: 0,
            source: String::new(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        };
        Self { file: file.to_owned(), problems: vec![problem] }
    }

    /// `error: …`, `file:line:column`, the line underlined, and a hint, for every problem.
    fn render(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            self.render_one(problem, &mut out);
        }
        let count = self.problems.len();
        let lines = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        let _ = write!(out, "{lines} in {}; nothing was applied", self.file);
        out
    }

    fn render_one(&self, problem: &Problem, out: &mut String) {
        let _ = writeln!(out, "error: {}", problem.message);
        if problem.line == 0 {
            let _ = writeln!(out, "  --> {}", self.file);
        } else {
            let number = problem.line.to_string();
            let margin = " ".repeat(number.len());
            let (source, pad, carets) = underline(problem);
            let _ = writeln!(out, "{margin}--> {}:{}:{}", self.file, problem.line, problem.column);
            let _ = writeln!(out, "{margin} |");
            let _ = writeln!(out, "{number} | {source}");
            let _ = writeln!(out, "{margin} | {pad}{carets}");
        }
        let _ = writeln!(out, "  = hint: {}\n", problem.hint);
    }
}

/// The line with its tabs kept in the padding too, so that the carets stand under the text whatever a tab's width is.
fn underline(problem: &Problem) -> (String, String, String) {
    let source: String = problem.source.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
    let before = problem.column.saturating_sub(1);
    let mut pad: String = source.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let missing = before.saturating_sub(source.chars().count());
    pad.extend(std::iter::repeat_n(' ', missing));
    (source, pad, "^".repeat(problem.len.max(1)))
}
