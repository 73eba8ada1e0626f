//! The words of u32 that are about hash tables: `offset`, `hashkey`, `divisor`, `link`, `ht`, `sample`. It changes no state.

use super::super::super::args::Args;
use super::super::super::error::TcError;
use super::super::super::number::{get_integer, get_u16, get_u32, matches, unsigned};
use super::{U32Offset, U32Spec, parse_handle, selector};

/// A table, without bucket and node.
const TABLE: u32 = 0xfff0_0000;
const BUCKET: u32 = 0x000f_f000;
const NODE: u32 = 0xfff;
const DIVISOR_MAX: u64 = 0x100;

fn illegal<T>(what: &str, token: usize, hint: &str) -> Result<T, TcError> {
    Err(TcError::parse(format!("Illegal \"{what}\""), token, hint))
}

/// `offset [plus N] [at A] [mask M] [shift S] [eat]` (`parse_offset()`, tc/f_u32.c).
pub(super) fn offset(args: &mut Args<'_>, spec: &mut U32Spec) -> Result<(), TcError> {
    let hint = "write it as offset at 0 mask 0f00 shift 6 plus 0 eat";
    args.next_word()?;
    while let Some(word) = args.word() {
        let token = args.position();
        let variable = &mut spec.offset.variable;
        if matches(word, "plus") {
            // `sel->off` is an unsigned 16-bit field: what does not fit is cut.
            let Some(plus) = get_integer(args.next_word()?) else { return illegal("offset", token, hint) };
            spec.offset.plus = Some(plus as u16);
        } else if matches(word, "at") {
            let Some(at) = get_integer(args.next_word()?) else { return illegal("offset", token, hint) };
            if at % 2 != 0 {
                args.stderr.push("offset \"at\" must be even".to_owned());
                return illegal("offset", args.position(), "the word that holds the offset starts at an even byte");
            }
            variable.get_or_insert_default().at = at as i16;
        } else if matches(word, "mask") {
            let Some(mask) = get_u16(args.next_word()?, 16) else { return illegal("offset", token, hint) };
            variable.get_or_insert_default().mask = mask;
        } else if matches(word, "shift") {
            let Some(shift) = get_integer(args.next_word()?) else { return illegal("offset", token, hint) };
            variable.get_or_insert_default().shift = shift as u8;
        } else if matches(word, "eat") {
            spec.offset.eat = true;
        } else {
            break;
        }
        args.skip();
    }
    Ok(())
}

/// `hashkey mask M at A` (`parse_hashkey()`).
pub(super) fn hashkey(args: &mut Args<'_>, spec: &mut U32Spec) -> Result<(), TcError> {
    let hint = "write it as hashkey mask 0x000000ff at 12 (at: a multiple of 4)";
    args.next_word()?;
    while let Some(word) = args.word() {
        let token = args.position();
        if matches(word, "mask") {
            let Some(mask) = get_u32(args.next_word()?, 16) else { return illegal("hashkey", token, hint) };
            spec.offset.hash_mask = mask;
        } else if matches(word, "at") {
            let at = get_integer(args.next_word()?).filter(|at| at % 4 == 0);
            let Some(at) = at else { return illegal("hashkey", args.position(), hint) };
            spec.offset.hash_at = at as i16;
        } else {
            break;
        }
        args.skip();
    }
    Ok(())
}

/// `divisor N`: the current word becomes N.
pub(super) fn divisor(args: &mut Args<'_>) -> Result<usize, TcError> {
    let text = args.next_word()?;
    match unsigned(text, 0).filter(|n| (1..=DIVISOR_MAX).contains(n) && n.is_power_of_two()) {
        Some(count) => Ok(count as usize),
        None => illegal("divisor", args.position(), "a table has a power of two of buckets, up to 256"),
    }
}

/// `link T:`: the current word becomes the table.
pub(super) fn link(args: &mut Args<'_>) -> Result<u32, TcError> {
    let text = args.next_word()?;
    let hint = "write the table's handle: link 1:";
    let Some(table) = parse_handle(text) else { return illegal("link", args.position(), hint) };
    if table & NODE != 0 {
        return Err(TcError::parse("\"link\" must be a hash table.", args.position(), hint));
    }
    Ok(table)
}

/// `ht T:B:`: the current word becomes the table with its bucket.
pub(super) fn ht(args: &mut Args<'_>, spec: &mut U32Spec, has_handle: bool) -> Result<(), TcError> {
    let text = args.next_word()?;
    let hint = "write the table's handle and the bucket: ht 2:3:";
    let Some(table) = parse_handle(text) else { return illegal("ht", args.position(), hint) };
    if has_handle && table & NODE != 0 {
        return Err(TcError::parse("\"ht\" must be a hash table.", args.position(), hint));
    }
    spec.table = if spec.has_sample { spec.table & BUCKET | table & TABLE } else { table & !NODE };
    Ok(())
}

/// `sample SELECTOR [divisor N]`: the bucket of a key with the selector's value; the word behind it becomes current.
pub(super) fn sample(args: &mut Args<'_>, spec: &mut U32Spec) -> Result<(), TcError> {
    let token = args.position();
    let mut key = U32Spec::default();
    selector::parse_as(args, &mut key, "sample")?;
    let [key] = key.keys.as_slice() else {
        let hint = "one field, for example sample ip src 10.1.2.5";
        return Err(TcError::parse("\"sample\" must contain exactly ONE key.", token, hint));
    };
    let mut count = DIVISOR_MAX;
    if args.is("divisor") {
        let text = args.next_word()?;
        count = match unsigned(text, 0).filter(|n| (1..=DIVISOR_MAX).contains(n) && n.is_power_of_two()) {
            Some(count) => count,
            None => {
                let hint = "the linked table's divisor: a power of two, up to 256";
                return Err(TcError::parse("Illegal sample \"divisor\"", args.position(), hint));
            }
        };
        args.next_word()?;
    }
    let fold = U32Offset { hash_mask: key.mask, ..U32Offset::default() };
    spec.table = (fold.bucket(key.value, count as usize) as u32) << 12 | spec.table & TABLE;
    spec.has_sample = true;
    Ok(())
}
