//! The ematch `meta`: `TCA_EM_META_*`, include/uapi/linux/tc_ematch/tc_em_meta.h; net/sched/em_meta.c.

use super::attr::{Attrs, Fields, Put};
use super::{Lacking, ematch};
use crate::rules::{EmatchMeta, MetaField, MetaObject};

const HEAD: u16 = 1;
const LEFT: u16 = 2;
const RIGHT: u16 = 3;
/// `TCF_META_TYPE_VAR` (a text) and `_INT`.
const TYPE_TEXT: u16 = 0;
const TYPE_NUMBER: u16 = 1;
const TYPE_SHIFT: u32 = 12;
const ID: u16 = 0x7ff;
/// `TCF_META_ID_VALUE` and `_DEV`.
const VALUE: u16 = 0;
const DEVICE: u16 = 5;
/// `TCF_META_ID_*`.
const FIELDS: [(u16, MetaField); 8] = [
    (1, MetaField::Random),
    (6, MetaField::Priority),
    (7, MetaField::Protocol),
    (8, MetaField::PacketType),
    (9, MetaField::PacketLen),
    (11, MetaField::MacLen),
    (12, MetaField::Mark),
    (46, MetaField::Vlan),
];
/// What is not read, by tc's names.
const OTHERS: &[(u16, &str)] = &[
    (2, "loadavg_1"),
    (3, "loadavg_5"),
    (4, "loadavg_15"),
    (5, "dev as a number"),
    (10, "data_len"),
    (13, "tc_index"),
    (14, "rt_classid"),
    (15, "rt_iif"),
    (47, "rxhash"),
];
/// `TCF_META_ID_SK_*`.
const SOCKET: std::ops::RangeInclusive<u16> = 16..=45;

pub(super) fn decode(bytes: &[u8]) -> Result<EmatchMeta, Lacking> {
    let attrs = Attrs::parse(bytes, "meta")?;
    let mut head = Fields::new(attrs.need(HEAD)?, "meta");
    let (left, left_shift, operand) = (head.u16()?, head.u8()?, head.u8()?);
    let (right, right_shift, _) = (head.u16()?, head.u8()?, head.u8()?);
    Ok(EmatchMeta {
        left: object(left, left_shift, attrs.get(LEFT))?,
        operand: ematch::operand(operand)?,
        right: object(right, right_shift, attrs.get(RIGHT))?,
    })
}

/// One side: `value` is its value or its mask.
fn object(kind: u16, shift: u8, value: Option<&[u8]>) -> Result<MetaObject, Lacking> {
    let lacking = |what: String| Err(Lacking(format!("meta with {what}")));
    match (kind >> TYPE_SHIFT, kind & ID) {
        (_, VALUE) if shift != 0 => lacking("a value that is shifted".to_owned()),
        (TYPE_TEXT, VALUE) => match value {
            Some(text) if !text.is_empty() => Ok(MetaObject::Text(text.to_vec())),
            Some(_) | None => lacking("an empty text".to_owned()),
        },
        (TYPE_NUMBER, VALUE) => number(value).map(MetaObject::Number),
        (TYPE_TEXT, DEVICE) => Ok(MetaObject::Device { shift }),
        (TYPE_NUMBER, id) => match FIELDS.iter().find(|(number, _)| *number == id) {
            Some((_, field)) => Ok(MetaObject::Field { field: *field, shift, mask: number(value)? }),
            None => match OTHERS.iter().find(|(number, _)| *number == id) {
                Some((_, name)) => lacking((*name).to_owned()),
                None if SOCKET.contains(&id) => lacking(format!("number {id} of a socket (TCF_META_ID_SK_*)")),
                None => lacking(format!("the number {id} (TCF_META_ID_*)")),
            },
        },
        (of, id) => lacking(format!("the object {id} of type {of} (TCF_META_*)")),
    }
}

/// A number of four bytes or as many as a machine word has; 0 without one.
fn number(value: Option<&[u8]>) -> Result<u32, Lacking> {
    let Some(bytes) = value else { return Ok(0) };
    let number = match (<[u8; 4]>::try_from(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(four), _) => Some(u32::from_ne_bytes(four)),
        (_, Ok(eight)) => u32::try_from(u64::from_ne_bytes(eight)).ok(),
        (Err(_), Err(_)) => None,
    };
    number.ok_or_else(|| Lacking(format!("meta with a number of {} bytes that does not fit into 32 bits", bytes.len())))
}

/// # Errors
/// A text is too long.
pub(super) fn encode(meta: &EmatchMeta) -> Result<Put, Lacking> {
    let [left, right] = [&meta.left, &meta.right].map(kind);
    let mut head = left.0.to_ne_bytes().to_vec();
    head.extend([left.1, ematch::operand_number(meta.operand)]);
    head.extend(right.0.to_ne_bytes());
    head.extend([right.1, 0]);
    let mut put = Put::default();
    put.bytes(HEAD, &head);
    for (attribute, object) in [(LEFT, &meta.left), (RIGHT, &meta.right)] {
        match object {
            MetaObject::Text(text) if text.len() > TEXT_LEN_MAX => {
                return Err(Lacking(format!("meta with a text of {} bytes", text.len())));
            }
            MetaObject::Text(text) => {
                put.bytes(attribute, text);
            }
            MetaObject::Field { mask: 0, .. } | MetaObject::Device { .. } => {}
            MetaObject::Number(number) | MetaObject::Field { mask: number, .. } => {
                put.u32(attribute, *number);
            }
        }
    }
    Ok(put)
}

/// More than a message has room for.
const TEXT_LEN_MAX: usize = 0x4000;

/// Kind and shift of an object.
fn kind(object: &MetaObject) -> (u16, u8) {
    match object {
        MetaObject::Number(_) => (TYPE_NUMBER << TYPE_SHIFT | VALUE, 0),
        MetaObject::Text(_) => (TYPE_TEXT << TYPE_SHIFT | VALUE, 0),
        MetaObject::Device { shift } => (TYPE_TEXT << TYPE_SHIFT | DEVICE, *shift),
        MetaObject::Field { field, shift, .. } => {
            let known = FIELDS.iter().find(|(_, known)| known == field);
            let (id, _) = known.expect("every field has a number");
            (TYPE_NUMBER << TYPE_SHIFT | id, *shift)
        }
    }
}
