#!/bin/sh
# The eth0 filter is back: traffic flows into the namespace.
. "$(dirname "$0")/config.sh"

add_eth0_filter
