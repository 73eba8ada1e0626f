//! The words of `filter show` and `chain show`. It lists nothing.

use super::super::args::Args;
use super::super::error::TcError;
use super::super::listing::{ListOptions, Selection};
use super::super::number::{classid, get_u32, matches};
use super::super::proto;
use super::{Parent, ShowCommand, Word};

/// `filter show …` (`tc_filter_list()`).
pub(super) fn show(args: &mut Args<'_>, netns: Option<&str>, options: &ListOptions) -> Result<ShowCommand, TcError> {
    let mut selection = Selection { netns: netns.map(str::to_owned), ..Selection::default() };
    let mut device = None;
    while let Some(word) = args.word() {
        let token = args.position();
        match word {
            "dev" => {
                let text = args.next_word()?.to_owned();
                device = Some(Word { text, token: args.position() });
            }
            "root" => selection.parent = Some(Parent::ROOT),
            "ingress" => selection.parent = Some(Parent::INGRESS),
            "egress" => selection.parent = Some(Parent::EGRESS),
            "parent" => {
                let text = args.next_word()?;
                let parent = classid(text).ok_or_else(|| invalid("invalid parent ID", text, args))?;
                selection.parent = Some(Parent(parent));
            }
            "handle" => drop(args.next_word()?),
            _ if matches(word, "preference") || matches(word, "priority") => {
                let text = args.next_word()?;
                let prio = get_u32(text, 0).ok_or_else(|| invalid("invalid preference", text, args))?;
                selection.prio = u16::try_from(prio).ok().filter(|p| *p != 0);
            }
            _ if matches(word, "protocol") => {
                let text = args.next_word()?;
                let protocol = proto::link_number(text).ok_or_else(|| invalid("invalid protocol", text, args))?;
                selection.protocol = Some(protocol);
            }
            _ if matches(word, "chain") => {
                let text = args.next_word()?;
                let chain = get_u32(text, 0).ok_or_else(|| invalid("invalid chain index value", text, args))?;
                selection.chain = Some(chain);
            }
            _ if matches(word, "help") => {}
            _ => {
                let message = format!(" What is \"{word}\"? Try \"tc filter help\"");
                return Err(TcError::usage(
                    message,
                    token,
                    "show takes dev, parent, ingress, egress, prio, protocol, chain",
                ));
            }
        }
        args.skip();
    }
    selection.device = device.as_ref().map(|d| d.text.clone());
    Ok(ShowCommand { device, selection, options: options.clone() })
}

fn invalid(why: &str, text: &str, args: &Args<'_>) -> TcError {
    TcError::invalid_argument(why, text, args.position(), "")
}
