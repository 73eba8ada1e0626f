//! What can be typed after `viscum bench`. Nothing is looked at or opened here.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `viscum bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// Something else than to measure.
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// What to measure.
    #[command(flatten)]
    pub run: BenchRun,
}

/// `viscum bench …`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Two reports side by side: before and after
    Compare {
        /// report.json of before
        #[arg(value_name = "A.json")]
        before: PathBuf,
        /// report.json of after
        #[arg(value_name = "B.json")]
        after: PathBuf,
    },
}

/// What `viscum bench` measures besides throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Nothing else
    Throughput,
    /// Ages of frames one way, and TCP round trips
    Latency,
    /// iperf3
    Tcp,
    /// Cost over numbers of rules and flows
    Scale,
}

/// `viscum bench` itself.
#[derive(Debug, Args)]
pub struct BenchRun {
    /// Only these paths, by words of their names; the first is what the others are compared with [all that can run]
    #[arg(long, value_name = "WORD", num_args = 1.., value_delimiter = ',')]
    pub paths: Vec<String>,
    /// Frame sizes in bytes, with the frame check sequence; 0 is an IMIX
    #[arg(long, value_name = "BYTES", num_args = 1.., value_delimiter = ',', default_values_t = [64, 512, 1518, 0],
          value_parser = frame_size)]
    pub sizes: Vec<usize>,
    /// Only these parts besides throughput [all]
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',')]
    pub parts: Vec<Part>,
    /// Length of a trial
    #[arg(long, default_value_t = 250, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub trial_ms: u64,
    /// Trials under overload, and runs of iperf3, for each path
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub rounds: usize,
    /// Flows; rounded up to a power of two
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub flows: u32,
    /// Numbers of rules for the part `scale`
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000])]
    pub rules: Vec<usize>,
    /// Numbers of flows for the part `scale`
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values_t = [1, 1_024, 131_072])]
    pub flow_counts: Vec<u32>,
    /// Where frames end
    #[arg(long, value_enum, default_value_t)]
    pub sink: crate::measure::sink::SinkKind,
    /// Core of the generator; the forwarders' workers take the last ones
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// Directory for report.json and report.html
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

fn frame_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ (0 | 64..=3_000)) => Ok(size),
        _ => Err("a frame size is 64 to 3000 bytes (the generator's limit is a page), or 0 for an IMIX".to_owned()),
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=100) => Ok(rounds),
        _ => Err("1 to 100 rounds".to_owned()),
    }
}
