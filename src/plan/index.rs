//! Finds the first of many rules that a frame may match, in a time that follows the number of mask shapes and not of rules. It only
//! proposes: whether a rule matches is asked of the caller, so nothing here can make a frame match.
//!
//! ```text
//! words of the frame ──▶ which groups can have a rule at all? (two tables by 16 bits each) ──▶ of those, the one with the oldest rule first:
//!                        hash of the masked words ──▶ rules with that hash, the oldest first ──▶ the caller compares
//! ```
//! "Tuple space search" (Srinivasan, Suri, Varghese, SIGCOMM 1999) with pruning; Open vSwitch's classifier does the same with stages.

use std::collections::{BTreeMap, HashMap};

/// Words that a frame is looked up by, at most.
pub(super) const WORDS_MAX: usize = 16;
/// Words of a frame.
pub(super) type Words = [u32; WORDS_MAX];

/// Groups at most: bits of a [`Set`]. Rules of further shapes share the last one, which compares nothing beforehand.
const GROUPS_MAX: usize = 128;
/// Groups of a bitmap.
type Set = u128;
/// With more groups, those of few rules compare shorter prefixes, so that they fall together.
const GROUPS_GOOD: usize = 48;
/// So many groups are worth a table that says which of them can have a rule.
const PRUNED_MIN: usize = 4;
/// And so many rules.
const PRUNED_RULES_MIN: usize = 64;
/// So many tables.
const PRUNES_MAX: usize = 3;
/// Of so many half words, those that most rules compare, the best are taken.
const PRUNES_TRIED: usize = 6;
/// Free bits of a half word that are worth writing out all values.
const FREE_BITS_MAX: u32 = 8;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// What a rule compares: place among the words, mask, value. What it compares besides is up to the caller.
pub(super) type Terms = Vec<(u8, u32, u32)>;

/// A mask shape, and the rules that have it.
type Shape = (Vec<(u8, u32)>, Vec<u32>);

/// Rules of one mask shape.
#[derive(Clone, Debug)]
struct Group {
    masks: Box<[(u8, u32)]>,
    /// The oldest rule in it.
    first: u32,
    /// By the hash's low bits: the oldest rule there.
    heads: Box<[u32]>,
}

/// Which groups can have a rule, by 16 bits of a word.
#[derive(Clone, Debug)]
struct Prune {
    word: u8,
    shift: u8,
    /// By the bits: a number of a set.
    numbers: Box<[u16]>,
    sets: Vec<Set>,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The one with the oldest rule first.
    groups: Vec<Group>,
    /// By rule: the hash of its values, and the next younger rule in its list.
    rules: Vec<(u32, u32)>,
    prunes: Vec<Prune>,
}

impl Index {
    /// For rules in their order. One without terms is never proposed; empty terms are always.
    pub fn new(rules: &[Option<Terms>]) -> Self {
        let mut shapes: BTreeMap<Vec<(u8, u32)>, Vec<u32>> = BTreeMap::new();
        for (number, terms) in (0..).zip(rules) {
            let Some(terms) = terms else { continue };
            shapes.entry(terms.iter().map(|(at, mask, _)| (*at, *mask)).collect()).or_default().push(number);
        }
        coarsen(&mut shapes);
        let mut shapes: Vec<Shape> = shapes.into_iter().collect();
        if shapes.len() > GROUPS_MAX {
            // Those with the most rules keep a group of their own.
            shapes.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
            let rest = shapes.split_off(GROUPS_MAX - 1);
            shapes.push((Vec::new(), rest.into_iter().flat_map(|(_, members)| members).collect()));
        }
        shapes.iter_mut().for_each(|(_, members)| members.sort_unstable());
        shapes.sort_by_key(|(_, members)| members[0]);
        let mut list = vec![(0, NONE); rules.len()];
        let groups = shapes.iter().map(|(masks, members)| group(masks, members, rules, &mut list)).collect();
        Self { groups, rules: list, prunes: prunes(&shapes, rules) }
    }

    /// The first rule that `matches` says yes to; it is asked only about rules that can be.
    #[inline]
    pub fn find(&self, words: &Words, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut best = NONE;
        if self.prunes.is_empty() {
            for group in &self.groups {
                if group.first >= best {
                    break;
                }
                self.find_in(group, words, &mut best, &mut matches);
            }
        } else {
            let mut possible = self.prunes.iter().fold(Set::MAX, |possible, p| {
                let bits = (words[usize::from(p.word)] >> p.shift) as u16;
                possible & p.sets[usize::from(p.numbers[usize::from(bits)])]
            });
            while possible != 0 {
                let Some(group) = self.groups.get(possible.trailing_zeros() as usize) else { break };
                possible &= possible - 1;
                if group.first >= best {
                    break;
                }
                self.find_in(group, words, &mut best, &mut matches);
            }
        }
        (best != NONE).then_some(best)
    }

    #[inline]
    fn find_in(&self, group: &Group, words: &Words, best: &mut u32, matches: &mut impl FnMut(u32) -> bool) {
        let hash = finish(group.masks.iter().fold(0, |hash, (at, mask)| mix(hash, words[usize::from(*at)] & mask)));
        let mut next = group.heads[hash as usize & (group.heads.len() - 1)];
        while next < *best {
            let (other, further) = self.rules[next as usize];
            if other == hash && matches(next) {
                *best = next;
                return;
            }
            next = further;
        }
    }
}

/// One step of FxHash, as rustc uses it.
fn mix(hash: u64, word: u32) -> u64 {
    (hash.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// The high bits are the better ones.
fn finish(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Lets shapes of few rules compare shorter prefixes while there are too many shapes.
fn coarsen(shapes: &mut BTreeMap<Vec<(u8, u32)>, Vec<u32>>) {
    for step in [8, 16] {
        let mut few: Vec<(usize, Vec<(u8, u32)>)> =
            shapes.iter().map(|(m, members)| (members.len(), m.clone())).collect();
        few.sort_unstable();
        for (_, masks) in few {
            if shapes.len() <= GROUPS_GOOD {
                return;
            }
            let shorter = |mask: u32| {
                let len = mask.leading_ones();
                // Only prefixes: other masks have no shorter form.
                if len + mask.trailing_zeros() < 32 {
                    mask
                } else {
                    u32::MAX.checked_shl(32 - len / step * step).unwrap_or(0)
                }
            };
            let coarse: Vec<(u8, u32)> =
                masks.iter().map(|(at, mask)| (*at, shorter(*mask))).filter(|(_, mask)| *mask != 0).collect();
            if coarse != masks {
                let members = shapes.remove(&masks).unwrap_or_default();
                shapes.entry(coarse).or_default().extend(members);
            }
        }
    }
}

fn group(masks: &[(u8, u32)], members: &[u32], rules: &[Option<Terms>], list: &mut [(u32, u32)]) -> Group {
    let mut heads = vec![NONE; (members.len() * 2).next_power_of_two()].into_boxed_slice();
    let last = heads.len() - 1;
    // The youngest first, so that the oldest ends up at the head.
    for number in members.iter().rev() {
        let value = |at: u8| term(rules, *number, at).map_or(0, |(_, value)| value);
        let hash = finish(masks.iter().fold(0, |hash, (at, mask)| mix(hash, value(*at) & mask)));
        let head = &mut heads[hash as usize & last];
        list[*number as usize] = (hash, *head);
        *head = *number;
    }
    Group { masks: masks.into(), first: members[0], heads }
}

/// Mask and value of a rule at a place.
fn term(rules: &[Option<Terms>], number: u32, place: u8) -> Option<(u32, u32)> {
    let mut terms = rules[number as usize].iter().flatten();
    terms.find(|(at, _, _)| *at == place).map(|(_, mask, value)| (*mask, *value))
}

/// The tables of those half words by which the fewest groups are left.
fn prunes(shapes: &[Shape], rules: &[Option<Terms>]) -> Vec<Prune> {
    if shapes.len() < PRUNED_MIN || rules.len() < PRUNED_RULES_MIN {
        return Vec::new();
    }
    let mut scores: HashMap<(u8, u8), usize> = HashMap::new();
    for (at, mask, _) in rules.iter().flatten().flatten() {
        for shift in [0, 16] {
            if free_bits(mask >> shift).count_ones() <= FREE_BITS_MAX {
                *scores.entry((*at, shift)).or_default() += 1;
            }
        }
    }
    let mut scores: Vec<((u8, u8), usize)> = scores.into_iter().collect();
    scores.sort_by_key(|(place, score)| (std::cmp::Reverse(*score), *place));
    let good = scores.into_iter().filter(|(_, score)| score * 4 >= rules.len()).take(PRUNES_TRIED);
    let mut prunes: Vec<(u64, Prune)> = good.map(|((word, shift), _)| prune(word, shift, shapes, rules)).collect();
    prunes.sort_by_key(|(left, _)| *left);
    let all = shapes.len() as u64 * rules.len() as u64;
    // One by which hardly any group can be left out costs more than it saves.
    prunes.into_iter().filter(|(left, _)| left * 10 < all * 9).take(PRUNES_MAX).map(|(_, prune)| prune).collect()
}

fn free_bits(mask: u32) -> u32 {
    !mask & 0xffff
}

/// A table, and how many groups it leaves to frames like the rules, in all.
fn prune(word: u8, shift: u8, shapes: &[Shape], rules: &[Option<Terms>]) -> (u64, Prune) {
    let mut sets: Vec<Set> = vec![0; 1 << 16];
    // Groups that can have a rule whatever the bits are.
    let mut any: Set = 0;
    let half = |number: u32| {
        let (mask, value) = term(rules, number, word)?;
        let free = free_bits(mask >> shift);
        (free.count_ones() <= FREE_BITS_MAX).then_some((free, (value >> shift & 0xffff & !free) as usize))
    };
    for (number, (_, members)) in shapes.iter().enumerate() {
        let bit = 1 << number;
        for member in members {
            let Some((free, value)) = half(*member) else {
                any |= bit;
                break;
            };
            // All values with these bits: the subsets of the free ones.
            let mut more: u32 = 0;
            loop {
                sets[value | more as usize] |= bit;
                more = more.wrapping_sub(free) & free;
                if more == 0 {
                    break;
                }
            }
        }
    }
    sets.iter_mut().for_each(|set| *set |= any);
    let left = |number: u32| half(number).map_or(shapes.len() as u32, |(_, value)| sets[value].count_ones());
    let left = (0..rules.len() as u32).map(|number| u64::from(left(number))).sum();
    let mut known: HashMap<Set, u16> = HashMap::new();
    let mut distinct: Vec<Set> = Vec::new();
    let mut last = None;
    let numbers = sets.iter().map(|set| match last {
        // Most are the same as the one before.
        Some((same, number)) if same == *set => number,
        _ => {
            let number = *known.entry(*set).or_insert_with(|| {
                distinct.push(*set);
                (distinct.len() - 1) as u16
            });
            last = Some((*set, number));
            number
        }
    });
    let numbers = numbers.collect();
    (left, Prune { word, shift, numbers, sets: distinct })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Masks that rules have: few of them, prefixes and ports.
    fn mask() -> impl Strategy<Value = u32> {
        prop_oneof![
            Just(u32::MAX),
            Just(0xffff),
            Just(0xff),
            (0u32..=32).prop_map(|n| u32::MAX.checked_shl(n).unwrap_or(0))
        ]
    }

    fn terms() -> impl Strategy<Value = Option<Terms>> {
        // Small values, so that rules and frames meet.
        let term =
            (0u8..5, mask(), prop_oneof![0u32..4, (0u32..4).prop_map(|n| n << 16), (0u32..4).prop_map(|n| n << 24)]);
        proptest::option::weighted(
            0.95,
            proptest::collection::vec(term, 0..4).prop_map(|terms| {
                let distinct: BTreeMap<u8, (u32, u32)> =
                    terms.into_iter().map(|(at, mask, v)| (at, (mask, v & mask))).collect();
                distinct.into_iter().map(|(at, (mask, value))| (at, mask, value)).collect()
            }),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn the_first_rule_that_matches_is_found(
            rules in prop_oneof![proptest::collection::vec(terms(), 1..40), proptest::collection::vec(terms(), 300..900)],
            frames in proptest::collection::vec(proptest::collection::vec((0u32..4, 0u32..4, 0u32..4), 5), 20),
        ) {
            let index = Index::new(&rules);
            for frame in frames {
                let mut words = [0; WORDS_MAX];
                words.iter_mut().zip(frame).for_each(|(word, (a, b, c))| *word = a | b << 16 | c << 24);
                let matches = |terms: &Terms| terms.iter().all(|(at, mask, value)| words[usize::from(*at)] & mask == *value);
                let want = rules.iter().position(|terms| terms.as_ref().is_some_and(matches)).map(|n| n as u32);
                let mut asked = 0;
                let found = index.find(&words, |rule| {
                    asked += 1;
                    rules[rule as usize].as_ref().is_some_and(matches)
                });
                prop_assert_eq!(found, want);
                prop_assert!(asked <= rules.len());
            }
        }
    }

    #[test]
    fn more_shapes_than_groups_are_found_all_the_same() {
        let rules: Vec<Option<Terms>> = (1..=1000u32).map(|n| Some(vec![(0, n, n)])).collect();
        let index = Index::new(&rules);
        assert_eq!(index.groups.len(), GROUPS_MAX);
        for wanted in [1u32, 7, 512, 1000] {
            let mut words = [0; WORDS_MAX];
            words[0] = wanted;
            let first = (1..=1000u32).position(|n| wanted & n == n).map(|n| n as u32);
            assert_eq!(index.find(&words, |rule| wanted & (rule + 1) == rule + 1), first);
        }
    }
}
