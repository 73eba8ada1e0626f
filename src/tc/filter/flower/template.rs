//! What a chain's template allows. It changes no state.

use crate::rules::FlowerKey;

/// Whether a key compares only bits that a chain's template compares too (`fl_mask_fits_tmplt()`).
#[must_use]
pub fn fits_template(key: &FlowerKey, template: &FlowerKey) -> bool {
    let allowed = template.mask();
    key.all_fields(&mut |field, _, mask| {
        let bits = allowed.iter().filter(|(f, _)| *f == field);
        mask & !bits.fold(0, |all, (_, bits)| all | bits) == 0
    })
}
