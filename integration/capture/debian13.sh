#!/bin/sh
# Captures Debian 13's engine on a lab node and unpacks the files into the folder given.
set -eu
output=$1
mkdir -p "$output"
# ovs-vswitchd started sooner after the boot than in eleven seconds counts no CPUs.
target/debug/dockline-lab run --debian13 --memory 4096 --deadline 300 -- '
    modprobe -a loop openvswitch ipv6
    until [ "$(cut -d. -f1 /proc/uptime)" -ge 12 ]; do sleep 0.5; done
    dockline-capture scenario --output /tmp/captures >&2
    tar -C /tmp/captures -c . | base64' | base64 -d | tar -C "$output" -x
