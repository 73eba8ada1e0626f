//! What tc prints when it is asked for help, line by line. Text only.

/// `tc help`.
pub(in crate::tc) const TC: &[&str] = &[
    "Usage:\ttc [ OPTIONS ] OBJECT { COMMAND | help }",
    "\ttc [-force] -batch filename",
    "where  OBJECT := { qdisc | class | filter | chain |",
    "\t\t    action | monitor | exec }",
    "       OPTIONS := { -V[ersion] | -s[tatistics] | -d[etails] | -r[aw] |",
    "\t\t    -o[neline] | -j[son] | -p[retty] | -c[olor]",
    "\t\t    -b[atch] [filename] | -n[etns] name | -N[umeric] |",
    "\t\t     -nm | -nam[es] | { -cf | -conf } path",
    "\t\t     -br[ief] }",
];

/// `tc filter help`.
pub(in crate::tc) const FILTER: &[&str] = &[
    "Usage: tc filter [ add | del | change | replace | show ] [ dev STRING ]",
    "       tc filter [ add | del | change | replace | show ] [ block BLOCK_INDEX ]",
    "       tc filter get dev STRING parent CLASSID protocol PROTO handle FILTERID pref PRIO FILTER_TYPE",
    "       tc filter get block BLOCK_INDEX protocol PROTO handle FILTERID pref PRIO FILTER_TYPE",
    "       [ pref PRIO ] protocol PROTO [ chain CHAIN_INDEX ]",
    "       [ estimator INTERVAL TIME_CONSTANT ]",
    "       [ root | ingress | egress | parent CLASSID ]",
    "       [ handle FILTERID ] [ [ FILTER_TYPE ] [ help | OPTIONS ] ]",
    "",
    "       tc filter show [ dev STRING ] [ root | ingress | egress | parent CLASSID ]",
    "       tc filter show [ block BLOCK_INDEX ]",
    "Where:",
    "FILTER_TYPE := { rsvp | u32 | bpf | fw | route | etc. }",
    "FILTERID := ... format depends on classifier, see there",
    "OPTIONS := ... try tc filter add <desired FILTER_KIND> help",
];

/// `tc qdisc help`.
pub(in crate::tc) const QDISC: &[&str] = &[
    "Usage: tc qdisc [ add | del | replace | change | show ] dev STRING",
    "       [ handle QHANDLE ] [ root | ingress | clsact | parent CLASSID ]",
    "       [ estimator INTERVAL TIME_CONSTANT ]",
    "       [ stab [ help | STAB_OPTIONS] ]",
    "       [ ingress_block BLOCK_INDEX ] [ egress_block BLOCK_INDEX ]",
    "       [ [ QDISC_KIND ] [ help | OPTIONS ] ]",
    "",
    "       tc qdisc { show | list } [ dev STRING ] [ QDISC_ID ] [ invisible ]",
    "Where:",
    "QDISC_KIND := { [p|b]fifo | tbf | prio | cbq | red | etc. }",
    "OPTIONS := ... try tc qdisc add <desired QDISC_KIND> help",
    "STAB_OPTIONS := ... try tc qdisc add stab help",
    "QDISC_ID := { root | ingress | handle QHANDLE | parent CLASSID }",
];

/// `tc chain help`.
pub(in crate::tc) const CHAIN: &[&str] = &[
    "Usage: tc chain [ add | del | get | show ] [ dev STRING ]",
    "       tc chain [ add | del | get | show ] [ block BLOCK_INDEX ] ]",
];
