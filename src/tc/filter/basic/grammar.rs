//! The grammar of expressions (tc/emp_ematch.y): from pieces to a tree. It knows no match by name.

use super::lexer::{Lexer, Piece, Text};
use crate::limits::{EMATCH_DEPTH_MAX, EMATCHES_MAX};
use crate::rules::EmatchThen;

/// A term as the grammar makes it.
pub(super) struct Node {
    pub inverted: bool,
    pub body: NodeBody,
    pub then: EmatchThen,
}

pub(super) enum NodeBody {
    Match(Vec<Text>),
    Group(Vec<Node>),
}

/// Why there is no tree.
pub(super) enum Failed {
    Syntax,
    TooMuch(String),
}

/// The grammar with one piece of look-ahead, as bison makes it: it reads no further than it must.
pub(super) struct Grammar<'l, 'a> {
    lexer: &'l mut Lexer<'a>,
    /// The piece that was read and not yet used.
    ahead: Option<Option<Piece>>,
    count: usize,
}

impl<'l, 'a> Grammar<'l, 'a> {
    pub fn new(lexer: &'l mut Lexer<'a>) -> Self {
        Self { lexer, ahead: None, count: 0 }
    }

    fn peek(&mut self) -> Option<&Piece> {
        let lexer = &mut *self.lexer;
        self.ahead.get_or_insert_with(|| lexer.next()).as_ref()
    }

    fn take(&mut self) -> Option<Piece> {
        self.peek();
        self.ahead.take().flatten()
    }

    /// Nothing, or an expression. Whatever follows it ends it.
    pub fn input(&mut self) -> Result<Option<Vec<Node>>, Failed> {
        if self.peek().is_none() {
            return Ok(None);
        }
        let root = self.expression(0)?;
        self.peek();
        Ok(Some(root))
    }

    fn expression(&mut self, depth: usize) -> Result<Vec<Node>, Failed> {
        let mut nodes = Vec::new();
        loop {
            let mut node = self.term(depth)?;
            node.then = match self.peek() {
                Some(Piece::And) => EmatchThen::And,
                Some(Piece::Or) => EmatchThen::Or,
                Some(Piece::Open | Piece::Close | Piece::Not | Piece::Word(_) | Piece::Error) | None => EmatchThen::End,
            };
            let then = node.then;
            nodes.push(node);
            if then == EmatchThen::End {
                return Ok(nodes);
            }
            self.take();
        }
    }

    fn term(&mut self, depth: usize) -> Result<Node, Failed> {
        self.count += 1;
        if self.count > EMATCHES_MAX {
            return Err(Failed::TooMuch(format!("more than {EMATCHES_MAX} matches in one expression")));
        }
        let inverted = self.peek() == Some(&Piece::Not);
        if inverted {
            self.take();
        }
        let body = match self.take() {
            Some(Piece::Open) if depth == EMATCH_DEPTH_MAX => {
                return Err(Failed::TooMuch(format!("more than {EMATCH_DEPTH_MAX} parentheses in each other")));
            }
            Some(Piece::Open) => {
                let group = self.expression(depth + 1)?;
                self.close()?;
                NodeBody::Group(group)
            }
            Some(Piece::Word(name)) => {
                if self.take() != Some(Piece::Open) {
                    return Err(Failed::Syntax);
                }
                let mut words = vec![name];
                while matches!(self.peek(), Some(Piece::Word(_))) {
                    let Some(Piece::Word(word)) = self.take() else { break };
                    words.push(word);
                }
                if words.len() == 1 {
                    self.take();
                    return Err(Failed::Syntax);
                }
                self.close()?;
                NodeBody::Match(words)
            }
            Some(Piece::Close | Piece::And | Piece::Or | Piece::Not | Piece::Error) | None => {
                return Err(Failed::Syntax);
            }
        };
        Ok(Node { inverted, body, then: EmatchThen::End })
    }

    fn close(&mut self) -> Result<(), Failed> {
        if self.take() == Some(Piece::Close) { Ok(()) } else { Err(Failed::Syntax) }
    }
}
