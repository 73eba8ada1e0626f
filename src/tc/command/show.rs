//! The words of `filter show` and `chain show`. It lists nothing.

use super::super::args::Args;
use super::super::error::TcError;
use super::super::filter::block_index;
use super::super::listing::{ListOptions, Selection};
use super::super::number::{classid, get_u32, matches};
use super::super::proto;
use super::{Parent, ShowCommand, Word};

/// `filter show …` (`tc_filter_list()`).
pub(super) fn show(args: &mut Args<'_>, netns: Option<&str>, options: &ListOptions) -> Result<ShowCommand, TcError> {
    let mut selection = Selection { netns: netns.map(str::to_owned), ..Selection::default() };
    let mut device: Option<Word> = None;
    let start = args.position();
    while let Some(word) = args.word() {
        let token = args.position();
        match word {
            "dev" => {
                let text = args.next_word()?.to_owned();
                if device.is_some() {
                    return Err(duplicate("dev", &text, args));
                }
                if selection.block.is_some() {
                    return Err(both("dev", "block", args));
                }
                device = Some(Word { text, token: args.position() });
            }
            _ if matches(word, "block") => {
                let text = args.next_word()?;
                if selection.block.is_some() {
                    return Err(duplicate("block", text, args));
                }
                if device.is_some() {
                    return Err(both("block", "dev", args));
                }
                selection.block = Some(block_index(text, args)?);
            }
            "root" | "ingress" | "egress" if selection.parent.is_some() => {
                let message = format!("Error: \"{word}\" is duplicate parent ID");
                return Err(TcError::usage(message, token, "name one of parent, root, ingress, egress"));
            }
            "root" => selection.parent = Some(Parent::ROOT),
            "ingress" => selection.parent = Some(Parent::INGRESS),
            "egress" => selection.parent = Some(Parent::EGRESS),
            "parent" => {
                let text = args.next_word()?;
                if selection.parent.is_some() {
                    return Err(duplicate("parent", text, args));
                }
                let parent = classid(text).ok_or_else(|| invalid("invalid parent ID", text, args))?;
                selection.parent = Some(Parent(parent));
            }
            "handle" => drop(args.next_word()?),
            _ if matches(word, "preference") || matches(word, "priority") => {
                let text = args.next_word()?;
                if selection.prio.is_some() {
                    return Err(duplicate("priority", text, args));
                }
                let prio = get_u32(text, 0).ok_or_else(|| invalid("invalid preference", text, args))?;
                selection.prio = u16::try_from(prio).ok().filter(|p| *p != 0);
            }
            _ if matches(word, "protocol") => {
                let text = args.next_word()?;
                if selection.protocol.is_some() {
                    return Err(duplicate("protocol", text, args));
                }
                let protocol = proto::link_number(text).ok_or_else(|| invalid("invalid protocol", text, args))?;
                selection.protocol = Some(protocol);
            }
            _ if matches(word, "chain") => {
                let text = args.next_word()?;
                if selection.chain.is_some() {
                    return Err(duplicate("chain", text, args));
                }
                let chain = get_u32(text, 0).ok_or_else(|| invalid("invalid chain index value", text, args))?;
                selection.chain = Some(chain);
            }
            _ if matches(word, "help") => {}
            _ => {
                let message = format!(" What is \"{word}\"? Try \"tc filter help\"");
                return Err(TcError::usage(
                    message,
                    token,
                    "show takes dev, block, parent, ingress, egress, prio, protocol, chain",
                ));
            }
        }
        args.skip();
    }
    selection.device = device.as_ref().map(|d| d.text.clone());
    Ok(ShowCommand { device, token: start, selection, options: options.clone() })
}

/// `duparg()`.
fn duplicate(name: &str, text: &str, args: &Args<'_>) -> TcError {
    let message = format!("Error: duplicate \"{name}\": \"{text}\" is the second value.");
    TcError::usage(message, args.position(), "give it once")
}

fn both(one: &str, other: &str, args: &Args<'_>) -> TcError {
    let message = format!("Error: \"{one}\" cannot be used in the same time as \"{other}\"");
    TcError::usage(message, args.position(), "list a device's filters or those of a shared block")
}

fn invalid(why: &str, text: &str, args: &Args<'_>) -> TcError {
    TcError::invalid_argument(why, text, args.position(), "")
}
