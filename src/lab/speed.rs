//! The second hosted service: Debian's unmodified iperf3, measured by its own client and proven by its servers' own output.

use std::path::Path;
use std::time::Duration;

use super::net::{APPLICATION, CAMERA, CLOUD, SPEEDTEST_ADDRESS};
use super::process::Process;
use super::shell::{LabError, run};

/// iperf3's port.
const PORT: u16 = 5201;
/// How long the client sends, in seconds.
const DURATION_S: u32 = 3;

/// Both servers.
#[derive(Debug)]
pub struct Servers {
    edge: Process,
    cloud: Process,
}

/// What a run measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// As the client says of what the server received.
    pub bits_per_second: f64,
    /// The edge's server saw this connection.
    pub edge_saw_it: bool,
    /// The cloud's server saw this connection.
    pub cloud_saw_it: bool,
}

impl Servers {
    /// Starts them.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start() -> Result<Self, LabError> {
        let start = |name: &str, netns: &str| {
            let port = PORT.to_string();
            let args = ["--server", "--port", port.as_str(), "--forceflush"];
            let mut server = Process::start(name, netns, Path::new("iperf3"), &args)?;
            server.wait_for("Server listening", Duration::from_secs(5))?;
            Ok::<_, LabError>(server)
        };
        Ok(Self { edge: start("edge-iperf3", APPLICATION)?, cloud: start("cloud-iperf3", CLOUD)? })
    }

    /// Runs the client in the camera's namespace.
    ///
    /// # Errors
    /// [`LabError::Failed`] with the client's message, [`LabError::Unready`] if its report is not understood.
    pub fn measure(&self) -> Result<Measured, LabError> {
        let line = format!(
            "iperf3 --client {SPEEDTEST_ADDRESS} --port {PORT} --time {DURATION_S} --connect-timeout 5000 --json"
        );
        let report = run(Some(CAMERA), &line)?;
        let strange = || LabError::Unready(format!("`{line}` reports no bit rate; it said:\n{report}"));
        let report: serde_json::Value = serde_json::from_str(&report).map_err(|_| strange())?;
        let bits_per_second = report["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(strange)?;
        let connected = &report["start"]["connected"][0];
        let host = connected["local_host"].as_str().ok_or_else(strange)?;
        let port = connected["local_port"].as_u64().ok_or_else(strange)?;
        // The server's line: `[  5] local A port 5201 connected to B port P`.
        let mark = format!("connected to {host} port {port}");
        let saw = |server: &Process| server.output().lines().any(|l| l.ends_with(&mark));
        Ok(Measured { bits_per_second, edge_saw_it: saw(&self.edge), cloud_saw_it: saw(&self.cloud) })
    }
}
