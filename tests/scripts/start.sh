#!/bin/sh
# Steps 1 to 6: qdiscs on the NIC, the veth pair, the namespace, and the rules of the three hooks.
. "$(dirname "$0")/config.sh"

# Step 1
$TC qdisc add dev eth0 ingress
$TC qdisc add dev eth0 root handle 1: fq

# Step 2
ip link add $specified_veth address 70:11:00:00:00:00 type veth peer name $peer_veth
ip link set $peer_veth address 70:00:00:00:00:00
ip link set $specified_veth up mtu 32768
ip link set $peer_veth up mtu 32768
$TC qdisc add dev $specified_veth root handle 1: fq
$TC qdisc add dev $peer_veth root handle 1: fq
$TC qdisc add dev $specified_veth ingress
$TC qdisc add dev $peer_veth ingress

# Step 3
ip netns add $netns
ip -n $netns link set dev lo up
ip link set dev $peer_veth netns $netns
ip -n $netns link set dev $peer_veth mtu 32768
ip -n $netns link set dev $peer_veth up
ip netns exec $netns sh -c "echo 0 > /proc/sys/net/ipv4/conf/$peer_veth/rp_filter"
ip netns exec $netns sh -c "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"
ip netns exec $netns sysctl -w net.ipv4.tcp_fwmark_accept=1
ip netns exec $netns sysctl -w net.ipv4.fwmark_reflect=1
ip -n $netns rule add iif $peer_veth lookup 100
ip -n $netns -6 rule add iif $peer_veth lookup 100
ip -n $netns route add local 0.0.0.0/0 dev lo table 100
ip -n $netns addr add 150.0.0.1/16 dev $peer_veth
ip -n $netns route add default via 150.0.0.2
ip addr add 150.0.0.2/16 dev $specified_veth
sh -c "echo 0 > /proc/sys/net/ipv4/conf/$specified_veth/rp_filter"
sh -c "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"
ip netns exec $netns ip link set $peer_veth arp off
sh -c "ip link set $specified_veth arp off"
# A device that goes into a namespace loses its qdiscs.
$TC -n $netns qdisc add dev $peer_veth root handle 1: fq
$TC -n $netns qdisc add dev $peer_veth ingress

# Step 4
add_eth0_filter

# Step 5: SYN, ACK, all other; counted and accepted
$TC -n $netns filter add dev $peer_veth prio 1 parent ffff: protocol ip u32 \
	match ip protocol 0x6 0xff \
	match u8 0x2 0xff at 33 \
	match ip dport 12345 0xff \
	action skbedit ptype host
$TC -n $netns filter add dev $peer_veth prio 2 parent ffff: protocol ip u32 \
	match ip protocol 0x6 0xff \
	match u8 0x10 0xff at 33 \
	match ip dport 12345 0xff \
	action skbedit ptype host
$TC -n $netns filter add dev $peer_veth prio 3 parent ffff: protocol ip u32 \
	match ip protocol 0x6 0xff \
	match ip dport 12345 0xff \
	action skbedit ptype host

# Step 6: SYN+ACK, then any other flags
$TC filter add dev $specified_veth parent ffff: prio 1 protocol ip u32 \
	match ip protocol 0x6 0xff \
	match ip sport 12345 0xff \
	match u8 0x12 0xff at 33 \
	action skbedit ptype host \
	action skbmod dmac e4:d3:f1:b1:b4:83 \
	action skbmod smac 5c:b9:01:c3:d9:38 \
	action mirred egress redirect dev eth0
$TC filter add dev $specified_veth parent ffff: prio 2 protocol ip u32 \
	match ip protocol 0x6 0xff \
	match ip sport 12345 0xff \
	action skbedit ptype host \
	action skbmod dmac e4:d3:f1:b1:b4:83 \
	action skbmod smac 5c:b9:01:c3:d9:38 \
	action mirred egress redirect dev eth0
