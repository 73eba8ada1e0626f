#!/bin/sh
# The eth0 filter goes: traffic flows to the cloud.
. "$(dirname "$0")/config.sh"

$TC filter del dev eth0 parent ffff: prio 1
