#!/bin/sh
# What the rules of all three hooks counted.
. "$(dirname "$0")/config.sh"

$TC -s filter ls dev eth0 parent ffff:
$TC -s filter ls dev $specified_veth parent ffff:
$TC -n $netns -s filter ls dev $peer_veth parent ffff:
ip netns exec $netns $TC -s filter ls dev $peer_veth parent ffff:
