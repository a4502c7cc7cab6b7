#!/bin/sh
# Installs what is missing on a Debian machine: `prepare.sh up` what running needs, `prepare.sh
# test` what the tests need besides. What is there already is left alone.
set -eu

run="docker.io openvswitch-switch lvm2 xfsprogs e2fsprogs iproute2 busybox-static util-linux kmod"
# protoc and its own .proto files for the client of etcd; liblvm2cmd for the volumes' helper.
build="gcc libc6-dev protobuf-compiler libprotobuf-dev liblvm2-dev"
test="$run user-mode-linux debootstrap btrfs-progs thin-provisioning-tools udev kmod \
    etcd-server etcd-client openssl iperf3 fio ethtool procps libclang-dev"

say() { printf '==> %s\n' "$*"; }

missing() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
        [ "$state" = "ii " ] || printf '%s ' "$package"
    done
}

install() {
    lacking=$(missing "$@")
    [ -n "$lacking" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "These packages are missing: $lacking" >&2
        echo "Run this as root, or install them yourself." >&2
        exit 1
    fi
    say "installing $lacking"
    log=$(mktemp)
    # The list of packages may be too old for them, or not be there at all.
    # shellcheck disable=SC2086  # a list of words
    if ! apt_get install $lacking >"$log" 2>&1; then
        apt_get update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
        apt_get install $lacking >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    fi
    rm -f "$log"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends "$@"
}

command -v dpkg-query >/dev/null || {
    echo "This is not a Debian machine. Install what $0 lists, then use cargo directly." >&2
    exit 1
}
case "${1:-}" in
up) wanted="$build $run" ;;
test) wanted="$build $test" ;;
*) echo "usage: $0 up|test" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086  # lists of words
install $wanted

command -v cargo >/dev/null || {
    echo "Rust is missing: install rustup (rustup.rs, or Debian's package rustup) and run this again;" >&2
    echo "rust-toolchain.toml names the version, which rustup then fetches by itself." >&2
    exit 1
}
[ "$1" = test ] || exit 0
for tool in cargo-nextest cargo-deny; do
    command -v "$tool" >/dev/null && continue
    say "building $tool (some minutes, once)"
    cargo install --locked --quiet "$tool"
done
