//! Frames made in the kernel: an XDP program run again and again on copies of one frame, whose verdicts are carried out.

use libbpf_sys as sys;

use super::{Error, Program};

impl Program {
    /// Runs an XDP program `count` times on copies of a frame and does what it says (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18):
    /// a redirect transmits, a pass goes to the stack of the program's device. Returns when the last one is on its way. Changes that
    /// the program makes stay in the copy for its next run, so it has to write all that it changes.
    ///
    /// `batch` frames, at most 256, are handed over at a time. The kernel takes frames of about 3,500 bytes at most.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on older kernels, else what the kernel says; EINTR is not among it.
    pub fn run_live(&self, frame: &[u8], count: u32, batch: u32) -> Result<(), Error> {
        let mut options = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            repeat: count as i32,
            flags: sys::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: batch,
            ..Default::default()
        };
        // SAFETY: the frame is valid for the call; no output buffer is given.
        let code = unsafe { sys::bpf_prog_test_run_opts(self.raw_fd(), &raw mut options) };
        match code {
            0.. => Ok(()),
            // A signal between two batches.
            code if -code == libc::EINTR => Ok(()),
            code => Err(Error::from_code("send frames from the kernel", code, 0)),
        }
    }
}
