# What the scripts of the plate reader share: sourced by each of them. TC is the tc to use.

: "${TC:=tc}"
netns=imagedetection
specified_veth=IMAGE_HOST_VETH
peer_veth=IMAGE_CONT_VETH

# From the outside world into the namespace.
add_eth0_filter() {
	$TC filter add dev eth0 parent ffff: prio 1 protocol ip u32 \
		match ip protocol 0x6 0xff \
		match ip dport 12345 0xff \
		action skbmod set smac 5c:b9:01:c3:d9:38 \
		action skbmod set dmac 70:00:00:00:00:00 \
		action skbedit ptype host \
		action mirred egress redirect dev $specified_veth
}
