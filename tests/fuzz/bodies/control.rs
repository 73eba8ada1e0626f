//! Bytes from a client of the control socket: whatever it sends, it gets whole lines of JSON and the forwarder lives on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use viscum::app::config::{Config, Overrides};
use viscum::app::control::Listener;
use viscum::app::forward::Running;
use viscum::app::rules::Runnable;
use viscum::app::run::{Answers, Printer};
use viscum::tc::Store;

struct Silent;

impl Printer for Silent {
    fn ready(&self, _: &Running, _: &Config) {}

    fn changed(&self, _: &str) {}

    fn status(&self, running: &Running, _: bool) -> String {
        running.rules.store.filter_count().to_string()
    }
}

/// A forwarder that keeps state only; one for all inputs.
fn answers() -> &'static Answers {
    static ANSWERS: OnceLock<Answers> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let over = Overrides { state_only: true, ..Overrides::default() };
        let config = Config::parse("", Path::new("fuzz.toml"), over).expect("the defaults are right");
        let running = Running::start(&[], &config).expect("state without devices needs nothing");
        Answers { running: Arc::new(Mutex::new(Some(running))), printer: Arc::new(Silent) }
    })
}

pub fn control(data: &[u8]) {
    // The replay of the corpus and the tests share it: one client at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = answers();
    if let Some(running) = answers.running.lock().expect("the forwarder lives").as_mut() {
        let none = Runnable::new(Store::new(), BTreeSet::new(), false).expect("no rules can be run");
        running.rules = Arc::new(none);
    }
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    let mut said = String::new();
    std::thread::scope(|scope| {
        scope.spawn(move || std::thread::scope(|threads| Listener::serve_one(server, answers, threads)));
        let mut to = client.try_clone().expect("another handle");
        scope.spawn(move || {
            let _gone = to.write_all(data);
            let _gone = to.shutdown(Shutdown::Write);
        });
        let _gone = client.read_to_string(&mut said);
    });
    for line in said.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("every line of an answer is JSON");
    }
}
