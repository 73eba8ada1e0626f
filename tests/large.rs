//! Bulk TCP with segmentation left to the devices at both ends: super-frames pass whole, and every byte arrives.

use viscum::lab::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC};

use crate::forward::{WAYS, complaints};
use crate::support::left;
use crate::support::traffic::{Tshark, tcp_both_ways};

const MB: usize = 1_000_000;

/// Frames longer than any on the wire, to the namespace and from it, in a connection of `bytes` each way.
fn super_frames(bytes: usize) -> (usize, usize) {
    let inside = Tshark::start(APPLICATION, "IMAGE_CONT_VETH", "tcp port 12345");
    let camera = Tshark::start(CAMERA, "eth0", "tcp port 12345");
    tcp_both_ways(CAMERA, APPLICATION, CLOUD_ADDRESS, 12345, bytes);
    let count = |tshark: Tshark, source| tshark.end(&format!("frame.len > 1518 && {source}"), &["frame.len"]).len();
    (count(inside, "ip.dst == 198.51.100.10"), count(camera, "ip.src == 198.51.100.10"))
}

#[test]
fn fifty_megabytes_pass_both_ways_in_super_frames_and_nobody_complains() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let before = left::state();
        let said_before = complaints(APPLICATION);
        let forwarder = way.start(&[]);
        tcp_both_ways(CAMERA, APPLICATION, CLOUD_ADDRESS, 12345, 50 * MB);
        // Before tshark comes, which tries ports of its own namespace.
        assert_eq!(complaints(APPLICATION), said_before, "the application got what is not for it");
        let (in_long, out_long) = super_frames(5 * MB);
        // Where the frames come by AF_PACKET they are whole; where they leave by AF_PACKET or a tap they are merged. AF_XDP takes and
        // gives ordinary ones.
        match way.mode {
            "af-packet" => assert!(in_long > 0 && out_long > 0, "{way:?}: {in_long} in, {out_long} out"),
            "auto" => assert!(in_long > 0 && out_long == 0, "{way:?}: {in_long} in, {out_long} out"),
            _af_xdp => assert!(out_long == 0, "{way:?}: {in_long} in, {out_long} out"),
        }
        assert_eq!(complaints(MEC), (0, 0), "the MEC box answered what was not for it");
        assert_eq!(complaints(CLOUD), (0, 0), "the cloud got what the edge has taken");
        forwarder.stop();
        left::assert_nothing(&before);
    }
}
