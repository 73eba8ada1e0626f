//! `chain add|del` (`tc_ctl_chain()`, cls_api.c) and its listing. It touches no filter except when it deletes a chain.

use std::fmt::Write as _;

use super::Store;
use crate::tc::command::ChainCommand;
use crate::tc::error::TcError;
use crate::tc::filter::{Kind, flower};
use crate::tc::listing::Selection;

impl Store {
    /// `chain add`, `chain del`.
    pub(super) fn chain(&mut self, netns: Option<&str>, command: &ChainCommand) -> Result<(), TcError> {
        let place = self.place(netns, &command.target)?;
        let block = self.block(place);
        let in_use = block.chain(place.chain).is_some_and(|c| c.explicit || !c.protos.is_empty());
        if command.delete {
            if !in_use {
                let hint = "tc chain show lists the chains";
                return Err(TcError::kernel("Cannot find specified filter chain", hint));
            }
            let chain = self.chain_mut(place);
            chain.explicit = false;
            chain.template = None;
            self.flush_chain(place);
            return Ok(());
        }
        if in_use {
            return Err(TcError::kernel("Filter chain already exists", "tc chain show lists the chains"));
        }
        let template = match &command.target.kind {
            None => None,
            Some(Kind::Flower(spec)) => Some(self.flower_key(netns, spec)?),
            Some(Kind::U32(_) | Kind::Matchall(_) | Kind::Fw(_) | Kind::Basic(_) | Kind::Unknown(_)) => {
                let text = "Chain templates are not supported with specified classifier";
                return Err(TcError::kernel(text, "only flower has templates").at(command.target.kind_token));
            }
        };
        let chain = self.chain_mut(place);
        chain.explicit = true;
        chain.template = template;
        Ok(())
    }

    /// `chain show`: in the order in which they were made.
    pub(super) fn list_chains(&self, selection: &Selection) -> String {
        let mut out = String::new();
        for (state, block) in self.selected(selection) {
            let (_, _, state) = state;
            for chain in &state.block(block).chains {
                let hidden = chain.protos.is_empty() && !chain.explicit;
                if hidden || selection.chain.is_some_and(|c| c != chain.index) {
                    continue;
                }
                let _ = match &chain.template {
                    None => writeln!(out, "chain chain {} ", chain.index),
                    Some(key) => {
                        let keys = flower::text(key, self.flower_indev(key));
                        writeln!(out, "chain flower chain {} {keys}", chain.index)
                    }
                };
            }
        }
        out
    }
}
