//! What can be typed to look at a running forwarder: `trace`, `capture`, `latency`, `top`. Nothing is looked at or opened here.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Socket;

/// `viscum trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// Device that receives the frames
    #[arg(value_name = "DEV")]
    pub device: String,
    /// Which frames, in tcpdump's words: tcp and host 198.51.100.10 [all]
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub filter: Vec<String>,
    /// End after so many frames [Ctrl-C ends it]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// As JSON, an object per frame on a line
    #[arg(short = 'j', long)]
    pub json: bool,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum capture`.
#[derive(Debug, Args)]
pub struct Capture {
    /// Device whose frames are wanted; `any` for all that are served
    #[arg(value_name = "DEV")]
    pub device: String,
    /// Which frames, in tcpdump's words: tcp and host 198.51.100.10 [all]
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub filter: Vec<String>,
    /// File to write (pcapng); - for stdout
    #[arg(short = 'w', long, value_name = "OUT.pcapng")]
    pub write: PathBuf,
    /// End after so many frames [Ctrl-C ends it]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Bytes of each frame to keep [all]
    #[arg(short = 's', long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub snaplen: Option<u32>,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum latency`.
#[derive(Debug, Args)]
pub struct Latency {
    /// Device that receives the frames; `any` for all that are served
    #[arg(value_name = "DEV")]
    pub device: String,
    /// End after so many frames [Ctrl-C ends it]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How often it is told
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// As JSON, an object on a line each time
    #[arg(short = 'j', long)]
    pub json: bool,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum top`.
#[derive(Debug, Args)]
pub struct Top {
    /// How long rates are measured, and how often they are shown
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// End after so many times [q or Ctrl-C ends it]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Plain text, one after the other
    #[arg(short = 'b', long)]
    pub batch: bool,
    /// How many rules are shown, the busiest first [20, or as many as the screen has room for]
    #[arg(short = 'r', long, value_name = "N")]
    pub rules: Option<usize>,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// Seconds, as 1 or 0.5.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed, as 1 or 0.5".to_owned())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("0.1 to 3600 seconds can be had".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
