//! Traffic with a known content: TCP both ways, sequence-numbered UDP, an interactive session. Bounded in bytes and time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngCore, SeedableRng};
use viscum::host::netns::in_namespace;

const PATIENCE: Duration = Duration::from_secs(30);

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rand::rngs::SmallRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}

/// `bytes` from a client to a server and as many others back, over one connection; both sides compare every byte.
/// The server listens on `port` of any address of its namespace.
pub fn tcp_both_ways(client: &str, server: &str, to: &str, port: u16, bytes: usize) {
    let listener = in_namespace(Some(server), || TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    let (request, response) = (Arc::new(noise(1, bytes)), Arc::new(noise(2, bytes)));
    let (expected, answer) = (Arc::clone(&request), Arc::clone(&response));
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = accept(&listener);
        let mut received = Vec::with_capacity(bytes);
        stream.read_to_end(&mut received).unwrap();
        assert!(received == *expected, "{} bytes came, not the {bytes} that were sent", received.len());
        stream.write_all(&answer).unwrap();
    });
    let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
    let received = in_namespace(Some(client), || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::with_capacity(bytes);
        stream.read_to_end(&mut received).unwrap();
        received
    });
    serving.join().unwrap();
    assert!(received.unwrap() == *response, "the answer is not what the server sent");
}

/// Accepts one connection, but not for ever.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                return (stream, from);
            }
            Err(e) => assert!(Instant::now() < deadline, "nobody connects: {e}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An interactive session, as SSH is: short lines there and back over one connection, until it is ended.
pub struct Session {
    ended: Arc<AtomicBool>,
    typing: Option<JoinHandle<u64>>,
}

impl Session {
    pub fn start(client: &'static str, server: &'static str, to: &str, port: u16) -> Self {
        let listener = in_namespace(Some(server), || TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = accept(&listener);
            let mut answers = stream.try_clone().unwrap();
            answers.set_nodelay(true).unwrap();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if answers.write_all(format!("{line}\n").as_bytes()).is_err() {
                    break;
                }
            }
        });
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
        let typing = std::thread::spawn(move || {
            in_namespace(Some(client), || {
                let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut keys = stream.try_clone().unwrap();
                let mut lines = BufReader::new(stream).lines();
                let mut count = 0;
                while !seen.load(Ordering::Relaxed) {
                    let typed = format!("line {count}");
                    keys.write_all(format!("{typed}\n").as_bytes()).unwrap();
                    assert_eq!(lines.next().unwrap().unwrap(), typed);
                    count += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                count
            })
            .unwrap()
        });
        Self { ended, typing: Some(typing) }
    }

    /// Ends it; how many lines went there and back.
    pub fn end(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.typing.take().unwrap().join().unwrap()
    }
}

/// Collects datagrams that carry a sequence number, until it is asked for them.
pub struct Counter {
    ended: Arc<AtomicBool>,
    receiving: JoinHandle<Vec<u64>>,
}

impl Counter {
    pub fn start(netns: &str, port: u16) -> Self {
        let socket = in_namespace(Some(netns), || UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let receiving = std::thread::spawn(move || {
            let mut numbers = Vec::new();
            let mut buffer = [0; 2048];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(len) => {
                        assert!(len >= 8, "{len} bytes are no datagram of ours");
                        numbers.push(u64::from_be_bytes(buffer[..8].try_into().unwrap()));
                    }
                    Err(_) if seen.load(Ordering::Relaxed) => return numbers,
                    Err(_) => {}
                }
            }
        });
        Self { ended, receiving }
    }

    /// The numbers, in the order of arrival.
    pub fn end(self) -> Vec<u64> {
        self.ended.store(true, Ordering::Relaxed);
        self.receiving.join().unwrap()
    }
}

/// Sends `count` datagrams with numbers from 0, `per_ms` each millisecond, from several flows in turn.
pub fn send_numbers(netns: &str, to: &str, port: u16, count: u64, per_ms: u64, flows: usize) {
    in_namespace(Some(netns), || {
        let sockets: Vec<UdpSocket> = (0..flows).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
        let start = Instant::now();
        for number in 0..count {
            let due = start + Duration::from_micros(number * 1000 / per_ms);
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(early);
            }
            let mut datagram = [0; 64];
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            sockets[number as usize % flows].send_to(&datagram, (to, port)).unwrap();
        }
    })
    .unwrap();
}

/// A capture by tshark; what it wrote is read back by tshark as well.
pub struct Tshark {
    child: Child,
    file: tempfile::NamedTempFile,
    said: JoinHandle<String>,
}

impl Tshark {
    /// Starts it and waits until it captures.
    pub fn start(netns: &str, device: &str, filter: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("ip");
        command.args([
            "netns", "exec", netns, "tshark", "-n", "-q", "-B", "64", "-s", "128", "-i", device, "-f", filter, "-w",
        ]);
        let mut child = command.arg(file.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Capture started") {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "tshark ended before it captured");
        }
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            errors.read_to_string(&mut said).unwrap();
            said
        });
        Self { child, file, said }
    }

    /// Ends the capture; one line of fields per frame that passes the display filter.
    pub fn end(mut self, display: &str, fields: &[&str]) -> Vec<String> {
        // What is in its ring yet is written once a second or so.
        std::thread::sleep(Duration::from_millis(1200));
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let said = self.said.join().unwrap();
        assert!(!said.contains("dropped"), "tshark lost frames, so that it cannot witness: {said}");
        read_capture(self.file.path(), display, fields)
    }
}

/// What a capture says: one line of fields per frame that passes the display filter.
pub fn read_capture(file: &Path, display: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-Y", display, "-r"]).arg(file);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
