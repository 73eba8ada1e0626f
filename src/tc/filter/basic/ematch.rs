//! Expressions of extended matches (tc/m_ematch.c) and the matches `cmp`, `u32` and `nbyte`
//! (em_cmp.c, em_u32.c, em_nbyte.c). It changes no state.

use super::grammar::{Failed, Grammar, Node, NodeBody};
use super::lexer::{Lexer, Text};
use super::{BasicSpec, meta};
use crate::rules::ematch::ematches;
use crate::rules::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchNbyte, EmatchOperand, EmatchTerm, EmatchU32, EmatchWidth,
};
use crate::tc::args::Args;
use crate::tc::error::TcError;

/// The longest needle: 12 bits of `struct tcf_em_nbyte`.
const NEEDLE_LEN_MAX: usize = 0xfff;

/// What is wrong with an expression, as `em_parse_error()` wants it.
#[derive(Debug)]
pub(super) struct Wrong {
    message: String,
    /// The word of the match that is wrong; `None`: none in particular.
    at: Option<usize>,
    hint: &'static str,
}

/// Why a match is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By tc's parser.
    Parse(Wrong),
    /// By tc, which prints these lines and no more.
    Say(Vec<String>),
    /// By viscum: what it lacks, and what to use.
    Unsupported(String, &'static str),
}

/// A refusal of tc's parser at a word.
pub(super) fn wrong<T>(message: &str, at: usize, hint: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Parse(Wrong { message: message.to_owned(), at: Some(at), hint }))
}

fn missing<T>(message: &str, hint: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Parse(Wrong { message: message.to_owned(), at: None, hint }))
}

const USAGE: &[&str] = &[
    "Usage: EXPR",
    "where: EXPR  := TERM [ { and | or } EXPR ]",
    "       TERM  := [ not ] { MATCH | '(' EXPR ')' }",
    "       MATCH := module '(' ARGS ')'",
    "       ARGS := ARG1 ARG2 ...",
    "",
    "Example: a(x y) and not (b(x) or c(x y z))",
];
const CMP_USAGE: &[&str] = &[
    "Usage: cmp(ALIGN at OFFSET [ ATTRS ] { eq | lt | gt } VALUE)",
    "where: ALIGN  := { u8 | u16 | u32 }",
    "       ATTRS  := [ layer LAYER ] [ mask MASK ] [ trans ]",
    "       LAYER  := { link | network | transport | 0..2 }",
    "",
    "Example: cmp(u16 at 3 layer 2 mask 0xff00 gt 20)",
];
const U32_USAGE: &[&str] = &[
    "Usage: u32(ALIGN VALUE MASK at [ nexthdr+ ] OFFSET)",
    "where: ALIGN  := { u8 | u16 | u32 }",
    "",
    "Example: u32(u16 0x1122 0xffff at nexthdr+4)",
];
const NBYTE_USAGE: &[&str] = &[
    "Usage: nbyte(NEEDLE at OFFSET [layer LAYER])",
    "where: NEEDLE := { string | \"c-escape-sequence\" }",
    "       OFFSET := int",
    "       LAYER  := { link | network | transport | 0..2 }",
    "",
    "Example: nbyte(\"ababa\" at 12 layer 1)",
];

/// Parses an expression (`parse_ematch()`); the word after `match` is the current one. Afterwards it is the word that ended it, or,
/// as in tc, the expression's own last word when nothing follows.
///
/// # Errors
/// What tc says, without `Illegal "ematch"`; matches that viscum lacks are refused by name.
pub fn parse(args: &mut Args<'_>, spec: &mut BasicSpec) -> Result<(), TcError> {
    let words = args.rest();
    let token = args.position();
    let mut lexer = Lexer::new(words);
    let root = Grammar::new(&mut lexer).input();
    let Lexer { taken, quoted, messages, .. } = lexer;
    args.stderr.extend(messages);
    let root = root.map_err(|failed| match failed {
        Failed::Syntax => {
            let hint = "write MATCH [and|or MATCH …], like: match 'cmp(u8 at 9 eq 6) and not u32(u16 80 0xffff at 22)'";
            let mut error = TcError::parse("Parse error: syntax error", token, hint);
            error.messages.push(place(words, taken));
            error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
            error
        }
        Failed::TooMuch(what) => TcError::unsupported(&what, token),
    })?;
    let taken = taken.saturating_sub(1);
    args.advance(taken);
    let Some(root) = root else { return Ok(()) };
    let mut terms = Terms { quoted: &quoted, overwritten: false, refused: None };
    let made = terms.sequence(&root).map_err(|failed| error(failed, words, taken, token))?;
    spec.refused = terms.refused;
    spec.note = terms.overwritten.then(|| {
        let mut shown = String::new();
        ematches(&made, &mut |m| shown.push_str(&format!(" {}", super::one_line(m))));
        format!(
            "tc keeps all quoted texts of one expression in one place, where each overwrites those before it; this rule \
             now compares:{shown}. Write texts without blanks and escapes without quotes, or one rule for each"
        )
    });
    spec.ematches = made;
    Ok(())
}

/// The line that shows where tc stopped reading.
fn place(words: &[crate::tc::script::Token], taken: usize) -> String {
    let mut line = "... ".to_owned();
    for (index, word) in words.iter().take(taken).enumerate() {
        if index + 1 == taken {
            line.push_str(&format!(">>{}<< ", word.text));
        } else {
            line.push_str(&format!("{} ", word.text));
        }
    }
    line + "..."
}

fn error(failed: (Refusal, &[Text]), words: &[crate::tc::script::Token], taken: usize, token: usize) -> TcError {
    let (refusal, args) = failed;
    let wrong = match refusal {
        Refusal::Parse(wrong) => wrong,
        Refusal::Say(messages) => {
            let hint = "an expression is made of cmp, u32, nbyte and meta";
            return TcError {
                exit_code: super::super::exit::PARSE,
                messages,
                hint: hint.to_owned(),
                token: Some(token),
            };
        }
        Refusal::Unsupported(what, hint) => {
            let mut error = TcError::unsupported(&what, token);
            hint.clone_into(&mut error.hint);
            return error;
        }
    };
    let mut error = TcError::parse("", token, wrong.hint);
    error.messages = wrong.message.split('\n').map(str::to_owned).collect();
    error.messages.push(place(words, taken));
    let (name, args) = args.split_first().map_or(("", args), |(name, rest)| match name.bytes.as_slice() {
        b"cmp" => ("cmp", rest),
        b"u32" => ("u32", rest),
        b"nbyte" => ("nbyte", rest),
        _ => ("meta", rest),
    });
    let shown: Vec<String> = args
        .iter()
        .enumerate()
        .map(|(index, arg)| if wrong.at == Some(index) { format!(">>{}<<", arg.shown()) } else { arg.shown() })
        .collect();
    error.messages.push(format!("... {name}({})...", shown.join(" ")));
    let usage = match name {
        "cmp" => CMP_USAGE,
        "u32" => U32_USAGE,
        "nbyte" => NBYTE_USAGE,
        _ => meta::USAGE,
    };
    error.messages.extend(usage.iter().map(|s| (*s).to_owned()));
    error
}

/// From the tree to terms.
struct Terms<'a> {
    /// What tc's buffer of quoted texts holds in the end.
    quoted: &'a [u8],
    /// A quoted text is not what was written any more.
    overwritten: bool,
    /// Why the kernel will refuse it.
    refused: Option<&'static str>,
}

impl Terms<'_> {
    /// In the order in which tc parses them: a sequence, then the groups in it.
    fn sequence<'n>(&mut self, nodes: &'n [Node]) -> Result<Vec<EmatchTerm>, (Refusal, &'n [Text])> {
        let mut terms = Vec::with_capacity(nodes.len());
        for node in nodes {
            let ask = match &node.body {
                NodeBody::Match(words) => EmatchAsk::One(self.one(words).map_err(|refusal| (refusal, &words[..]))?),
                NodeBody::Group(_) => EmatchAsk::Group(Vec::new()),
            };
            terms.push(EmatchTerm { inverted: node.inverted, ask, then: node.then });
        }
        for (node, term) in nodes.iter().zip(&mut terms) {
            if let NodeBody::Group(nodes) = &node.body {
                term.ask = EmatchAsk::Group(self.sequence(nodes)?);
            }
        }
        Ok(terms)
    }

    fn one(&mut self, words: &[Text]) -> Result<Ematch, Refusal> {
        let mut args: Vec<Text> = words[1..].to_vec();
        for arg in args.iter_mut().filter(|a| a.quoted) {
            let now = &self.quoted[..arg.bytes.len().min(self.quoted.len())];
            self.overwritten |= now != arg.bytes;
            arg.bytes = now.to_vec();
        }
        let lacks = |hint| Err(Refusal::Unsupported(format!("the ematch {}", words[0].shown()), hint));
        Ok(match words[0].bytes.as_slice() {
            b"cmp" => Ematch::Cmp(cmp(&args)?),
            b"u32" => Ematch::U32(u32(&args)?),
            b"nbyte" => Ematch::Nbyte(nbyte(&args)?),
            b"meta" => {
                let (meta, refused) = meta::parse(&args)?;
                self.refused = self.refused.or(refused);
                Ematch::Meta(meta)
            }
            b"canid" => {
                return lacks("it is for CAN frames, which viscum does not forward; leave it to the kernel's own tc");
            }
            b"ipset" => {
                return lacks("a set lives in the kernel; write its addresses as flower rules (dst_ip, src_ip)");
            }
            b"ipt" => return lacks("netfilter's matches live in the kernel; write it with cmp, u32, nbyte or meta"),
            _ => return Err(Refusal::Say(vec![format!("Unknown ematch \"{}\"", words[0].shown())])),
        })
    }
}

fn operand(word: &Text) -> Option<EmatchOperand> {
    [EmatchOperand::Eq, EmatchOperand::Gt, EmatchOperand::Lt].into_iter().find(|o| word.is(o.as_str()))
}

/// See [`operand`]; for `meta`.
pub(super) fn meta_operand(word: &Text) -> Option<EmatchOperand> {
    operand(word)
}

/// The value behind the word at `at`, or tc's complaint about it.
fn value<'a>(args: &'a [Text], at: usize, kind: &str, hint: &'static str) -> Result<&'a Text, Refusal> {
    args.get(at + 1).map_or_else(|| wrong(&format!("{kind}: missing argument"), at, hint), Ok)
}

/// `layer L`; the word at `at` is its value.
fn layer(word: &Text, at: usize, kind: &str) -> Result<EmatchLayer, Refusal> {
    const HINT: &str = "a layer is link (0), network (1) or transport (2)";
    let number = match word.bytes.first() {
        Some(b'l') => Some(0),
        Some(b'n') => Some(1),
        Some(b't') => Some(2),
        Some(_) | None => word.number(),
    };
    match number {
        Some(0) => Ok(EmatchLayer::Link),
        Some(1) => Ok(EmatchLayer::Network),
        Some(2) => Ok(EmatchLayer::Transport),
        Some(_) => wrong(&format!("{kind}: illegal layer, must be in 0..2"), at, HINT),
        None => wrong(&format!("{kind}: invalid layer"), at, HINT),
    }
}

fn cmp(args: &[Text]) -> Result<EmatchCmp, Refusal> {
    const HINT: &str = "write it like cmp(u16 at 2 layer transport eq 80)";
    let width = match args[0].bytes.as_slice() {
        b"u8" => EmatchWidth::U8,
        b"u16" => EmatchWidth::U16,
        b"u32" => EmatchWidth::U32,
        _ => return wrong("cmp: invalid alignment", 0, HINT),
    };
    let (mut offset, mut mask, mut compared) = (None, 0, None);
    let (mut trans, mut layer_of) = (false, EmatchLayer::Network);
    let mut at = 1;
    while let Some(word) = args.get(at) {
        if word.is("trans") {
            trans = true;
            at += 1;
            continue;
        }
        let operand = operand(word);
        if operand.is_none() && !["at", "layer", "mask"].iter().any(|known| word.is(known)) {
            return wrong("nbyte: unknown parameter", at, HINT);
        }
        let text = value(args, at, "cmp", HINT)?;
        let number =
            |what: &str| text.number().map_or_else(|| wrong(&format!("cmp: invalid {what}"), at + 1, HINT), Ok);
        match operand {
            Some(operand) => compared = Some((operand, number("value")? as u32)),
            None if word.is("at") => offset = Some(number("offset, must be numeric")? as u16),
            None if word.is("mask") => mask = number("mask")? as u32,
            None => layer_of = layer(text, at + 1, "cmp")?,
        }
        at += 2;
    }
    let (Some(offset), Some((operand, value))) = (offset, compared) else {
        return missing("cmp: offset and value required", HINT);
    };
    Ok(EmatchCmp { width, offset, layer: layer_of, mask, trans, operand, value })
}

fn u32(args: &[Text]) -> Result<EmatchU32, Refusal> {
    const HINT: &str = "write it like u32(u16 80 0xffff at 22)";
    let number = |at: usize, what: &str| match args.get(at) {
        None => missing(&format!("u32: missing {what}"), HINT),
        Some(word) => {
            word.number().map_or_else(|| wrong(&format!("u32: invalid {what}, must be numeric"), at, HINT), Ok)
        }
    };
    let width = match args[0].bytes.as_slice() {
        b"u8" => EmatchWidth::U8,
        b"u16" => EmatchWidth::U16,
        b"u32" => EmatchWidth::U32,
        _ => return wrong("u32: invalid alignment", 0, HINT),
    };
    let (mut key, mut mask) = (number(1, "key")?, number(2, "mask")?);
    match args.get(3) {
        Some(word) if word.is("at") => {}
        Some(_) => return wrong("u32: missing \"at\"", 3, HINT),
        None => return missing("u32: missing \"at\"", HINT),
    }
    let Some(word) = args.get(4) else { return missing("u32: missing offset", HINT) };
    let mut last = 4;
    let mut next_header = false;
    let offset = match word.bytes.strip_prefix(b"nexthdr+") {
        Some([]) => {
            last = 5;
            let Some(word) = args.get(5) else { return missing("u32: missing offset", HINT) };
            word.number()
        }
        Some(rest) => {
            next_header = true;
            Some(Text { bytes: rest.to_vec(), quoted: false }.number().unwrap_or(0))
        }
        None => word.number(),
    };
    let Some(offset) = offset else { return wrong("u32: invalid offset", last, HINT) };
    if args.len() > last + 1 {
        return wrong("u32: unexpected trailer", last + 1, HINT);
    }
    let limit = match width {
        EmatchWidth::U8 => 0xff,
        EmatchWidth::U16 => 0xffff,
        EmatchWidth::U32 => u64::MAX,
    };
    for (what, number) in [("key", key), ("mask", mask)] {
        if number > limit {
            return wrong(&format!("Illegal {what} (>0x{limit:X})"), last, HINT);
        }
    }
    match width {
        EmatchWidth::U8 => {
            let shift = 24 - (offset & 3) * 8;
            (key, mask) = (key << shift, mask << shift);
        }
        EmatchWidth::U16 if offset & 3 == 0 => (key, mask) = (key << 16, mask << 16),
        EmatchWidth::U16 => {}
        EmatchWidth::U32 if !offset.is_multiple_of(4) => {
            return wrong("u32: invalid offset alignment, must be aligned to 4.", last, HINT);
        }
        EmatchWidth::U32 => {}
    }
    let mask = mask as u32;
    Ok(EmatchU32 { value: key as u32 & mask, mask, offset: (offset & !3) as i32, next_header })
}

fn nbyte(args: &[Text]) -> Result<EmatchNbyte, Refusal> {
    const HINT: &str = "write it like nbyte(\"GET \" at 20 layer transport)";
    let needle = args[0].bytes.clone();
    if needle.is_empty() {
        return wrong("nbyte: needle length is 0", 0, HINT);
    }
    if needle.len() > NEEDLE_LEN_MAX {
        return Err(Refusal::Unsupported(
            format!("an nbyte of more than {NEEDLE_LEN_MAX} bytes"),
            "compare fewer bytes",
        ));
    }
    let (mut offset, mut layer_of) = (None, EmatchLayer::Network);
    let mut at = 1;
    while let Some(word) = args.get(at) {
        if !word.is("at") && !word.is("layer") {
            return wrong("nbyte: unknown parameter", at, HINT);
        }
        let text = value(args, at, "nbyte", HINT)?;
        if word.is("layer") {
            layer_of = layer(text, at + 1, "nbyte")?;
        } else {
            let Some(number) = text.number() else {
                return wrong("nbyte: invalid offset, must be numeric", at + 1, HINT);
            };
            offset = Some(number as u16);
        }
        at += 2;
    }
    let Some(offset) = offset else { return missing("nbyte: offset required", HINT) };
    Ok(EmatchNbyte { needle, offset, layer: layer_of })
}
