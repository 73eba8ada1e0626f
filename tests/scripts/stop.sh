#!/bin/sh
# All that start.sh made goes.
. "$(dirname "$0")/config.sh"

$TC qdisc del dev eth0 ingress
$TC qdisc del dev eth0 root
$TC qdisc del dev $specified_veth ingress
$TC -n $netns qdisc del dev $peer_veth ingress
ip link del $specified_veth
ip netns del $netns
