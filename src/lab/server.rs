//! The plate server: an ordinary TCP server. It knows nothing of rules, forwarder or testbed.
//!
//! A client sends a JPEG and shuts its direction down (`nc -N` does); the answer is the plate's text and a newline, or
//! `error: …`. One log line per request: `peer=… local=… bytes=… plate=… ms=…`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::ocr::read_plate;
use super::shell::LabError;

/// The longest picture that is taken, in bytes.
pub const PICTURE_LEN_MAX: u64 = 16 << 20;
/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Requests that are worked on at once; more wait in the listen queue.
const REQUESTS_MAX: usize = 4;

/// Serves until the process ends. Prints `ready` and its address on standard output once it listens.
///
/// # Errors
/// [`LabError::File`] if the address or the log cannot be opened.
pub fn serve(listen: SocketAddr, log: Option<&Path>) -> Result<std::convert::Infallible, LabError> {
    let failed = |what, path: String| move |source| LabError::File { what, path, source };
    let log: Option<(PathBuf, File)> = log
        .map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map(|f| (path.to_owned(), f)).map_err(failed("cannot open the log", path.display().to_string()))
        })
        .transpose()?;
    let listener = TcpListener::bind(listen).map_err(failed("cannot listen on", listen.to_string()))?;
    println!("ready {listen}");
    let log = Mutex::new(log);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..REQUESTS_MAX).map(|_| scope.spawn(|| work(&listener, &log))).collect();
        for worker in workers {
            let _ends_only_by_panic = worker.join();
        }
    });
    Err(LabError::Unready("the plate server's threads have ended".to_owned()))
}

fn work(listener: &TcpListener, log: &Mutex<Option<(PathBuf, File)>>) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Err(e) = answer(stream, peer, log) {
                    eprintln!("{peer}: {e}");
                }
            }
            Err(e) => {
                eprintln!("accept: {e}");
                // Out of descriptors, most likely: spinning would not help.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer(mut stream: TcpStream, peer: SocketAddr, log: &Mutex<Option<(PathBuf, File)>>) -> std::io::Result<()> {
    let start = Instant::now();
    let local = stream.local_addr()?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut picture = Vec::new();
    (&mut stream).take(PICTURE_LEN_MAX + 1).read_to_end(&mut picture)?;
    let text = if picture.len() as u64 > PICTURE_LEN_MAX {
        format!("error: the picture has more than {PICTURE_LEN_MAX} bytes")
    } else {
        read_plate(&picture).unwrap_or_else(|e| format!("error: {}", e.to_string().replace('\n', " ")))
    };
    let (bytes, ms) = (picture.len(), start.elapsed().as_millis());
    let line = format!("peer={peer} local={local} bytes={bytes} plate={text:?} ms={ms}\n");
    // Before the answer: who has the answer may rely on the line.
    match &mut *log.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((path, file)) => {
            file.write_all(line.as_bytes()).map_err(|e| std::io::Error::other(format!("{}: {e}", path.display())))?;
        }
        None => print!("{line}"),
    }
    stream.write_all(format!("{text}\n").as_bytes())
}

/// What a log says of the request from `peer`: whether it is there, and how many bytes came.
#[must_use]
pub fn logged_bytes(log: &str, peer: SocketAddr) -> Option<u64> {
    let start = format!("peer={peer} ");
    let line = log.lines().find(|l| l.starts_with(&start))?;
    line.split_whitespace().find_map(|w| w.strip_prefix("bytes="))?.parse().ok()
}
