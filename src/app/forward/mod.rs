//! From rules and a configuration to a running forwarder.

mod attach;
mod change;
mod choice;
mod ports;
mod running;
mod status;
mod watch;
mod watching;

pub use attach::{AttachError, Hold, Served};
pub use choice::{NATIVE_XDP_MTU_MAX, Way};
pub use running::{ForwardError, Running, Stopped};
pub use status::{DeviceStatus, PortStatus, Status, WorkerStatus};
pub use watching::InForce;
