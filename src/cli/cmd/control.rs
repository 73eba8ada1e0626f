//! The subcommands that ask a running forwarder: `show`, `status`, `bypass`, `nobypass`, `reload`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use crate::app::config::SOCKET_DEFAULT;
use crate::app::control::{Request, ask};
use crate::app::rules::read;
use crate::cli::args::{Reload, Show, Status, Switch};

pub fn show(args: Show) -> anyhow::Result<ExitCode> {
    let mut words = args.what.iter().map(String::as_str).filter(|w| *w != "dev").peekable();
    let device = words.next_if(|w| !matches!(*w, "ingress" | "egress")).map(str::to_owned);
    let ingress = match words.next() {
        None => None,
        Some("ingress") => Some(true),
        Some("egress") => Some(false),
        Some(other) => {
            bail!("{other:?}: after the device comes `ingress` or `egress`, e.g. `viscum show eth0 ingress -s`")
        }
    };
    if let Some(extra) = words.next() {
        bail!("{extra:?}: too much; e.g. `viscum show eth0 ingress -s`");
    }
    let request = Request::Show { device, netns: args.netns, ingress, statistics: args.statistics, json: args.json };
    ask_and_print(args.socket.socket, &request)
}

pub fn status(args: Status) -> anyhow::Result<ExitCode> {
    ask_and_print(args.socket.socket, &Request::Status { json: args.json })
}

pub fn bypass(args: Switch, on: bool) -> anyhow::Result<ExitCode> {
    ask_and_print(args.socket.socket, &Request::Bypass { device: args.device, netns: args.netns, on })
}

pub fn reload(args: Reload) -> anyhow::Result<ExitCode> {
    let files = read(&args.rules)?;
    ask_and_print(args.socket.socket, &Request::Reload { files })
}

fn ask_and_print(socket: Option<PathBuf>, request: &Request) -> anyhow::Result<ExitCode> {
    let path = socket.unwrap_or_else(|| Path::new(SOCKET_DEFAULT).to_owned());
    let response = ask(&path, request)?;
    if !response.ok {
        bail!("{}", response.text);
    }
    super::print(&response.text);
    Ok(ExitCode::SUCCESS)
}
