//! From rules and a configuration to a running forwarder.

mod attach;
mod auto;
mod change;
mod choice;
mod inkernel;
mod kernel;
mod ports;
mod rank;
mod running;
mod served;
mod status;
mod tend;
mod watch;
mod watching;

pub use attach::AttachError;
pub use auto::{ORDER as AUTO_ORDER, name as auto_name};
pub use choice::{Choice, ChoiceError, NATIVE_XDP_MTU_MAX, Wanted, Way, choose, wanted};
pub use kernel::{TcError, missing_kinds};
pub use rank::can_run;
pub use running::{ForwardError, Running, Stopped};
pub use served::{Hold, Served};
pub use status::{AbsentStatus, DeviceStatus, PortStatus, Status, WorkerStatus};
pub use watching::InForce;
