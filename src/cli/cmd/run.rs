//! `viscum run`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::config::{Config, Overrides, TakeOver};
use crate::app::forward::Running;
use crate::app::run::{Ended, Printer, run as forward};
use crate::cli::args::Run;
use crate::cli::render;
use crate::types::DeviceKey;

pub fn run(args: Run) -> anyhow::Result<ExitCode> {
    let device = |text: &String| match text.split_once('/') {
        Some((netns, name)) => DeviceKey::new(Some(netns), name),
        None => DeviceKey::local(text),
    };
    let kernel = args.kernel;
    let take_over = kernel
        .take_over
        .then(|| TakeOver { devices: kernel.devices.iter().map(device).collect(), give_back: kernel.give_back });
    let over = Overrides {
        rules: args.rules,
        mode: args.mode,
        deliver: args.deliver,
        taps: args.taps,
        socket: args.socket.socket,
        busy: args.busy,
        state_only: args.state_only,
        take_over,
    };
    let config = Config::load(args.config.as_deref(), over)?;
    let printer: Arc<dyn Printer> = Arc::new(Terminal);
    let Ended { stopped, not_given_back } = forward(&config, &printer)?;
    super::print(&render::stopped(&stopped));
    if let Some(error) = not_given_back {
        return Err(error.into());
    }
    // A frame that nobody owns, or a worker that panicked, is a fault of this program: say so with the exit code as well.
    Ok(if stopped.outstanding == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Terminal;

impl Printer for Terminal {
    fn ready(&self, running: &Running, config: &Config) {
        super::print(&render::started(running));
        let names: Vec<String> = running.served.iter().map(|s| s.wanted.key.to_string()).collect();
        let what = if running.state_only {
            "keeping the state of tc, no device is touched".to_owned()
        } else if names.is_empty() {
            "no device yet; `viscum tc` and `viscum reload` bring them in".to_owned()
        } else {
            format!("forwarding on {}", names.join(", "))
        };
        super::print(&format!(
            "ready: {what}; control socket {}; SIGINT or SIGTERM ends it\n",
            config.socket.display()
        ));
        let _gone = std::io::stdout().flush();
    }

    fn changed(&self, what: &str) {
        super::print(&format!("{what}\n"));
        let _gone = std::io::stdout().flush();
    }

    fn status(&self, running: &Running, json: bool) -> String {
        render::status(&running.status(), json)
    }
}
