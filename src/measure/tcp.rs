//! Real TCP through a path: request and response one by one, and iperf3. The addresses are those of the bed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use super::MeasureError;
use super::bed::TO;
use super::frames::PORT;
use super::lane::Lane;
use super::times::{Percentiles, histogram};
use crate::host::netns::in_namespace;
use crate::lab::process::Process;
use crate::lab::shell::{LabError, run};

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests before the first that counts.
const WARM_UP: u32 = 200;

fn failed(what: &str, source: &std::io::Error) -> MeasureError {
    MeasureError::Lab(LabError::Unready(format!("TCP through the path: {what}: {source}")))
}

/// Sends a byte and waits for one, `count` times, over one connection.
///
/// # Errors
/// [`MeasureError::Lab`] if there is no connection or no answer.
pub fn round_trips(lane: &Lane, count: u32) -> Result<Percentiles, MeasureError> {
    lane.go(true);
    let result = trips(lane, count);
    lane.go(false);
    result
}

fn trips(lane: &Lane, count: u32) -> Result<Percentiles, MeasureError> {
    let address = SocketAddr::from((Ipv4Addr::from(TO), PORT));
    let listener =
        in_namespace(Some(&lane.bed.to()), || TcpListener::bind(address))?.map_err(|e| failed("bind", &e))?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _slower = (stream.set_nodelay(true), stream.set_read_timeout(Some(PATIENCE)));
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
        let measured = in_namespace(Some(&lane.bed.from()), || ask(address, count));
        if measured.as_ref().map_or(true, Result::is_err) {
            // Nobody came: let the server's accept end.
            let _told = in_namespace(Some(&lane.bed.to()), || TcpStream::connect_timeout(&address, PATIENCE));
        }
        let _ended = server.join();
        measured?.map_err(|e| failed("a request", &e))
    })
}

fn ask(address: SocketAddr, count: u32) -> std::io::Result<Percentiles> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut times = histogram();
    let mut byte = [7];
    for n in 0..count + WARM_UP {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if n >= WARM_UP {
            times.saturating_record(start.elapsed().as_nanos() as u64);
        }
    }
    Ok(Percentiles::of(&times))
}

/// What iperf3 said.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// What the receiver got.
    pub bits_per_second: f64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// Runs iperf3 from sender to receiver, or the other way round.
///
/// # Errors
/// [`MeasureError::Lab`] with what iperf3 said.
pub fn speed(lane: &Lane, number: usize, seconds: u32, reverse: bool) -> Result<Speed, MeasureError> {
    lane.go(true);
    let result = iperf3(lane, number, seconds, reverse);
    lane.go(false);
    result
}

fn iperf3(lane: &Lane, number: usize, seconds: u32, reverse: bool) -> Result<Speed, MeasureError> {
    let port = PORT.to_string();
    let name = format!("bench-{number}-iperf3");
    let args = ["--server", "--one-off", "--port", port.as_str(), "--forceflush"];
    let mut server = Process::start(&name, &lane.bed.to(), FilePath::new("iperf3"), &args)?;
    server.wait_for("Server listening", PATIENCE)?;
    let address = Ipv4Addr::from(TO);
    let direction = if reverse { "--reverse" } else { "" };
    let line =
        format!("iperf3 --client {address} --port {port} --time {seconds} --connect-timeout 3000 --json {direction}");
    let said = run(Some(&lane.bed.from()), line.trim_end())?;
    let strange = || LabError::Unready(format!("`{line}` reports no bit rate; it said:\n{said}"));
    let report: serde_json::Value = serde_json::from_str(&said).map_err(|_| strange())?;
    let bits_per_second = report["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(strange)?;
    let retransmits = report["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
    Ok(Speed { bits_per_second, retransmits })
}
