//! Text as a configuration and as a topology: an answer, never a panic. Nothing is opened but the text.

use std::path::Path;

use viscum::app::config::{Config, Overrides};
use viscum::app::replay::{Case, Engine, Form};
use viscum::tc::Store;

pub fn config(text: &str) {
    let path = Path::new("fuzz.toml");
    match Config::parse(text, path, Overrides::default()) {
        Ok(config) => assert!(config.rings.rx.is_power_of_two()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let case = match Case::parse(text, path) {
        Ok(case) => case,
        Err(error) => return assert!(error.to_string().contains("fuzz.toml")),
    };
    assert!(case.variables().contains_key("TC"));
    match case.topology(path) {
        Ok(topology) => {
            let engine = Engine::new(&Store::new(), &topology, Form::Plan).expect("no rules can be run");
            assert!(case.device.is_empty() || engine.device(&case.device[0].name).is_some());
        }
        Err(error) => assert!(error.to_string().contains("fuzz.toml")),
    }
}
