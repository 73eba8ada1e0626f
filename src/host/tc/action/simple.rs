//! `simple`: include/uapi/linux/tc_act/tc_defact.h.

use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Simple};

const PARMS: u16 = 2;
const DATA: u16 = 3;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "simple", |control, _| {
        Ok(Action::Simple(Simple { data: super::super::attr::text(attrs.need(DATA)?), control }))
    })
}

pub(super) fn encode(simple: &Simple, index: u32, put: &mut Put) {
    put.bytes(PARMS, &General::bytes(index, simple.control)).text(DATA, &simple.data);
}
