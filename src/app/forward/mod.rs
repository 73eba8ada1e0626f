//! From rules and a configuration to a running forwarder.

mod attach;
mod choice;
mod running;
mod seats;
mod status;
mod watch;
mod watching;

pub use attach::{AttachError, Hold, Served};
pub use choice::{NATIVE_XDP_MTU_MAX, Way};
pub use running::{ForwardError, Running, Stopped};
pub use seats::Layout;
pub use status::{DeviceStatus, PortStatus, Status, WorkerStatus};
pub use watching::InForce;
