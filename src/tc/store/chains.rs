//! `chain add|del|get` (`tc_ctl_chain()`, cls_api.c). It touches no filter except when it deletes a chain.

use super::Store;
use crate::tc::command::{ChainCommand, ChainVerb};
use crate::tc::error::TcError;
use crate::tc::filter::Kind;

impl Store {
    /// `chain add`, `chain del`, `chain get`; what is printed.
    pub(super) fn chain(&mut self, netns: Option<&str>, command: &ChainCommand) -> Result<String, TcError> {
        let place = self.place(netns, &command.target)?;
        let chain = self.block(place).chain(place.chain);
        let in_use = chain.is_some_and(|c| c.explicit || !c.protos.is_empty());
        let missing = || TcError::kernel("Cannot find specified filter chain", "tc chain show lists the chains");
        match &command.verb {
            ChainVerb::Get(options) => {
                let chain = chain.filter(|_| in_use).ok_or_else(missing)?;
                let of_block = command.target.block.is_some();
                return Ok(self.list_chain((&self.states[&place.device], place.block), chain, of_block, options));
            }
            ChainVerb::Delete => {
                if !in_use {
                    return Err(missing());
                }
                let chain = self.chain_mut(place);
                chain.explicit = false;
                chain.template = None;
                self.flush_chain(place);
                return Ok(String::new());
            }
            ChainVerb::Add if in_use => {
                return Err(TcError::kernel("Filter chain already exists", "tc chain show lists the chains"));
            }
            ChainVerb::Add => {}
        }
        let template = match &command.target.kind {
            None => None,
            Some(Kind::Flower(spec)) => Some(self.flower_key(netns, spec)?),
            Some(Kind::U32(_) | Kind::Matchall(_) | Kind::Fw(_) | Kind::Basic(_)) => {
                let text = "Chain templates are not supported with specified classifier";
                return Err(TcError::kernel(text, "only flower has templates").at(command.target.kind_token));
            }
            Some(Kind::Unknown(_)) => {
                return Err(TcError::kernel("TC classifier not found", "only flower has templates"));
            }
        };
        let chain = self.chain_mut(place);
        chain.explicit = true;
        chain.template = template;
        Ok(String::new())
    }
}
