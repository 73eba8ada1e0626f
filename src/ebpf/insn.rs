//! eBPF instructions as the kernel defines them: registers, operations, encoding. Data only.
//!
//! ```text
//! struct bpf_insn (include/uapi/linux/bpf.h): | code: u8 | dst: 4 bits, src: 4 bits | off: i16 | imm: i32 |
//! ```

/// A register. R10 is the frame pointer; R6 to R9 survive calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "registers are their own names")]
pub enum Reg {
    R0 = 0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
    /// 8 bytes.
    D,
}

impl Size {
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::W => 0x00,
            Self::H => 0x08,
            Self::B => 0x10,
            Self::D => 0x18,
        }
    }
}

/// Arithmetic, by `BPF_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "operations are their own names")]
#[repr(u8)]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// Conditions of jumps; unsigned but for those that begin with S.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "conditions are their own names")]
#[repr(u8)]
pub enum Cond {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    Ne = 0x50,
    SGe = 0x70,
    Lt = 0xa0,
    Le = 0xb0,
    SLt = 0xc0,
}

/// Kernel functions, by number (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `bpf_map_lookup_elem(map, key)`.
    MapLookup = 1,
    /// `bpf_ktime_get_ns()`.
    KtimeNs = 5,
    /// `bpf_skb_store_bytes(skb, offset, from, len, flags)`.
    SkbStoreBytes = 9,
    /// `bpf_clone_redirect(skb, ifindex, flags)`.
    CloneRedirect = 13,
    /// `bpf_skb_vlan_push(skb, proto, tci)`.
    SkbVlanPush = 18,
    /// `bpf_skb_vlan_pop(skb)`.
    SkbVlanPop = 19,
    /// `bpf_redirect(ifindex, flags)`.
    Redirect = 23,
    /// `bpf_skb_load_bytes(skb, offset, to, len)`.
    SkbLoadBytes = 26,
    /// `bpf_csum_diff(from, from_size, to, to_size, seed)`.
    CsumDiff = 28,
    /// `bpf_skb_change_type(skb, type)`.
    SkbChangeType = 32,
    /// `bpf_xdp_adjust_head(xdp, delta)`.
    XdpAdjustHead = 44,
    /// `bpf_redirect_map(map, key, flags)`.
    RedirectMap = 51,
    /// `bpf_ktime_get_coarse_ns()`, Linux 5.11.
    KtimeCoarseNs = 160,
    /// `bpf_xdp_load_bytes(xdp, offset, to, len)`, Linux 5.18.
    XdpLoadBytes = 189,
    /// `bpf_xdp_store_bytes(xdp, offset, from, len)`, Linux 5.18.
    XdpStoreBytes = 190,
}

/// One instruction slot (a 64-bit load takes two).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class and operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// As the kernel wants it in memory, in this machine's byte order.
    #[must_use]
    pub fn raw(self) -> u64 {
        let registers =
            if cfg!(target_endian = "little") { self.dst | (self.src << 4) } else { (self.dst << 4) | self.src };
        let (off, imm) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        u64::from_ne_bytes([self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]])
    }
}

/// A map that the program refers to; the loader puts its descriptor in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapRef {
    /// Per-CPU counters: an array of blocks.
    Counters,
    /// AF_XDP sockets by queue.
    Sockets,
    /// What a forwarding program works on, per CPU.
    Workspace,
    /// Outgoing devices by their number in the program.
    Devices,
    /// Rules that are looked up.
    Rules,
}
