//! Every bound of the program in one place, checked against each other at compile time. No logic here.

/// Frames that a worker takes from a port at once. One burst stays in L1/L2 (64 × 2 KiB) and amortises the ring commits.
pub const BURST_LEN: usize = 64;
/// Default length of each AF_XDP ring (fill, completion, rx, tx), in frames. A veth's own ring holds 256.
pub const RING_LEN_DEFAULT: u32 = 2048;
/// Smallest and largest ring that a user may ask for, in frames.
pub const RING_LEN_MIN: u32 = 64;
/// See [`RING_LEN_MIN`]; the kernel refuses AF_XDP rings above 2^16 or so for lack of contiguous memory on small machines.
pub const RING_LEN_MAX: u32 = 65_536;
/// Length of one buffer of a worker's frame memory when an AF_XDP socket shares it, in bytes: a page, the most AF_XDP takes.
pub const CHUNK_LEN_XDP: usize = 4096;
/// The longest frame that any port takes, in bytes: an IP datagram of 65,535 bytes, Ethernet header and two VLAN tags.
pub const FRAME_LEN_MAX: usize = 65_535 + 14 + 8;
/// Length of the Ethernet header without a VLAN tag, in bytes (IEEE 802.3).
pub const ETHERNET_LEN: usize = 14;
/// Length of a VLAN tag (TPID and TCI), in bytes (IEEE 802.1Q).
pub const VLAN_TAG_LEN: usize = 4;
/// Room that copies of a frame get before it, in bytes, for tags and headers that actions put there.
pub const FRAME_HEADROOM: usize = 80;
/// How far behind a frame's start its network header may be, in bytes: actions put 64 bytes of tags and Ethernet headers before a
/// frame at most. The kernel has no such bound; beyond it the action fails and drops the frame.
pub const NETWORK_OFFSET_MAX: usize = ETHERNET_LEN + 64;
/// The kernel drops a tagged frame shorter than this before tc sees it (`skb_vlan_untag`).
pub const TAGGED_FRAME_LEN_MIN: usize = 20;

/// How often classification may start again (`reclassify`, `goto chain`) before the frame is dropped:
/// `max_reclassify_loop` in `__tcf_classify()`, net/sched/cls_api.c.
pub const RECLASSIFY_MAX: u32 = 16;
/// How deep mirred may call itself: `MIRRED_NEST_LIMIT`, net/sched/act_mirred.c.
pub const MIRRED_NEST_MAX: u32 = 4;
/// How many frames one frame may cause to be received through veth pairs in a replay: rules can send it round and round, and the
/// kernel would do so for ever.
pub const VETH_HOPS_MAX: u32 = 64;
/// Actions in one filter: `TCA_ACT_MAX_PRIO`, include/uapi/linux/pkt_cls.h. Also bounds `jump`.
pub const ACTIONS_PER_FILTER_MAX: usize = 32;
/// Keys in one u32 node: the kernel's `nkeys` is a byte; tc allocates 128 (`f_u32.c`, `struct { struct tc_u32_sel sel; struct tc_u32_key keys[128]; }`).
pub const U32_KEYS_MAX: usize = 128;

/// How deep u32 tables link into each other for one frame (`TC_U32_MAXDEPTH`); deeper, the filter ends without a match.
pub const U32_DEPTH_MAX: usize = 8;

/// Matches and parentheses in the expression of one basic filter; tc's message to the kernel has no room for many more.
pub const EMATCHES_MAX: usize = 256;
/// Parentheses in each other in such an expression: `CONFIG_NET_EMATCH_STACK`; deeper, the kernel takes the filter and then matches
/// everything.
pub const EMATCH_DEPTH_MAX: usize = 32;

/// How many steps a frame makes in the tables of one u32 filter. The kernel has no bound but the depth; this one is above what a
/// single bucket can hold, and ends rules that multiply from table to table.
pub const U32_VISITS_MAX: u32 = 1 << 16;
/// Filters that one rules file may add; beyond it the file is refused rather than the memory exhausted.
pub const FILTERS_MAX: usize = 1_100_000;
/// Length of a rules file, in bytes.
pub const RULES_FILE_LEN_MAX: u64 = 256 << 20;
/// Length of an interface name without the terminating zero (`IFNAMSIZ` − 1).
pub const DEVICE_NAME_LEN_MAX: usize = 15;
/// Queues (and so workers) of one device that are served.
pub const QUEUES_MAX: usize = 64;
/// Ports of one worker.
pub const PORTS_MAX: usize = 127;
/// Frames that may wait on their way from one worker to another, for each pair.
pub const CROSSING_LEN: usize = 1024;
/// Conditions in one filter of `trace` and `capture`.
pub const FILTER_TERMS_MAX: usize = 128;
/// How deep parentheses and `not` nest in such a filter.
pub const FILTER_DEPTH_MAX: usize = 32;
/// Traces, captures and latencies that may look at one forwarder at the same time.
pub const TAPS_MAX: usize = 8;
/// Copies of frames that may wait for one trace or capture.
pub const TAP_LEN_MAX: usize = 4096;
/// Bytes that these copies may take together, unless [`TAP_LEN_MIN`] copies take more.
pub const TAP_BYTES_MAX: usize = 32 << 20;
/// Copies that always find room.
pub const TAP_LEN_MIN: usize = 256;
/// Times of frames that may wait for one `latency`.
pub const TIMES_LEN_MAX: usize = 1 << 16;
/// Frames whose times one worker notes in one round over its ports.
pub const TIMES_PER_ROUND_MAX: usize = 4096;

const _: () = assert!(BURST_LEN <= RING_LEN_MIN as usize, "a burst must fit into the smallest ring");
const _: () = assert!(RING_LEN_MIN.is_power_of_two() && RING_LEN_MAX.is_power_of_two());
const _: () = assert!(RING_LEN_DEFAULT.is_power_of_two());
const _: () = assert!(RING_LEN_MIN <= RING_LEN_DEFAULT && RING_LEN_DEFAULT <= RING_LEN_MAX);
const _: () = assert!(TAGGED_FRAME_LEN_MIN >= ETHERNET_LEN + VLAN_TAG_LEN);
const _: () = assert!(NETWORK_OFFSET_MAX <= FRAME_HEADROOM + ETHERNET_LEN - VLAN_TAG_LEN, "room for the last tag too");
const _: () = assert!(CROSSING_LEN >= BURST_LEN);
const _: () = assert!(TAPS_MAX <= u8::BITS as usize, "who wants a frame's time is a bit of a byte");
const _: () = assert!(TIMES_PER_ROUND_MAX >= BURST_LEN && TIMES_PER_ROUND_MAX <= TIMES_LEN_MAX);
const _: () = assert!(TAP_LEN_MIN >= BURST_LEN && TAP_LEN_MIN <= TAP_LEN_MAX);
