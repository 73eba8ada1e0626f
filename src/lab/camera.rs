//! The traffic camera: sends a JPEG to an address and waits for the text. It knows nothing of who answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::shell::LabError;

/// How long to wait for the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long to wait for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const ANSWER_LEN_MAX: u64 = 4096;

/// The longest time that a summary tells apart, in microseconds.
const TIME_US_MAX: u64 = 600_000_000;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text, without the newline.
    pub text: String,
    /// The camera's address and port.
    pub local: SocketAddr,
    /// From the first SYN to the connection's end.
    pub elapsed: Duration,
}

/// Sends one picture from the calling thread's namespace.
///
/// # Errors
/// [`LabError::Unready`] with the step that failed.
pub fn send(to: SocketAddr, jpeg: &[u8]) -> Result<Answer, LabError> {
    let failed = |step: &'static str| move |e| LabError::Unready(format!("{to}: {step}: {e}"));
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_MAX).map_err(failed("connecting"))?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed("setting a timeout"))?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(failed("setting a timeout"))?;
    let local = stream.local_addr().map_err(failed("asking for the own address"))?;
    stream.write_all(jpeg).map_err(failed("sending the picture"))?;
    stream.shutdown(Shutdown::Write).map_err(failed("ending the picture"))?;
    let mut text = String::new();
    (&mut stream).take(ANSWER_LEN_MAX).read_to_string(&mut text).map_err(failed("waiting for the text"))?;
    Ok(Answer { text: text.trim_end().to_owned(), local, elapsed: start.elapsed() })
}

/// Sends pictures one after the other, printing each answer and a summary of the times.
///
/// # Errors
/// [`LabError::File`] for a picture that cannot be read; [`LabError::Unready`] as [`send`].
pub fn run(to: SocketAddr, images: &[impl AsRef<Path>]) -> Result<(), LabError> {
    let mut times = Times::default();
    for path in images.iter().map(AsRef::as_ref) {
        let jpeg = read_image(path)?;
        let answer = send(to, &jpeg)?;
        times.add(answer.elapsed);
        println!("{}: {} ({:.1} ms)", path.display(), answer.text, answer.elapsed.as_secs_f64() * 1000.0);
    }
    println!("{times}");
    Ok(())
}

/// A user's own picture.
///
/// # Errors
/// [`LabError::File`].
pub fn read_image(path: &Path) -> Result<Vec<u8>, LabError> {
    std::fs::read(path).map_err(|source| LabError::File {
        what: "cannot read the picture",
        path: path.display().to_string(),
        source,
    })
}

/// Times of several requests.
#[derive(Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, TIME_US_MAX, 3)
                .expect("the bounds and digits are within the histogram's range"),
        )
    }
}

impl Times {
    /// Takes one more.
    pub fn add(&mut self, elapsed: Duration) {
        self.0.saturating_record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    }
}

/// `N requests: min … median … max … ms`.
impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        let (min, median, max) = (ms(self.0.min()), ms(self.0.value_at_quantile(0.5)), ms(self.0.max()));
        write!(f, "{} requests: min {min:.1}, median {median:.1}, max {max:.1} ms", self.0.len())
    }
}
