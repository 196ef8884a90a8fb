#!/usr/bin/env bash
# Builds the crate for AArch64 and runs its tests under user-mode QEMU: the NEON table on an x86-64 machine.
#
#   tools/emulate_neon.sh               the batteries over all tables: tests named simd, codec or linear
#   tools/emulate_neon.sh logits sampler  unit and integration tests whose name contains one of these
#   tools/emulate_neon.sh ''            all of them (some minutes)
#
# The build denies warnings: the files under src/simd/neon are compiled by no x86-64 build, so this is their lint too.
#
# Needs, from Debian 12 or later (Ubuntu has the same names):
#   apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
# and Rust's standard library for AArch64, from the first of these that is there:
#   rustup target add aarch64-unknown-linux-gnu
#   dpkg --add-architecture arm64 && apt update     (then this script downloads Debian's own rustc and unpacks it
#                                                    below target/emulation; nothing of it is installed)
# Everything built lies in target/emulation.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/target/emulation
target=aarch64-unknown-linux-gnu
mkdir -p "$work"

fail() { printf 'emulate_neon: %s\n' "$*" >&2; exit 1; }

command -v aarch64-linux-gnu-gcc >/dev/null || fail "no AArch64 linker: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
[ -e /usr/aarch64-linux-gnu/lib/crti.o ] || fail "no AArch64 C library: apt install libc6-dev-arm64-cross"
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || fail "no emulator: apt install qemu-user-static"

has_std() { [ -n "$(find "$("$1" --print sysroot)/lib/rustlib/$target/lib" -name 'libstd-*.rlib' 2>/dev/null)" ]; }

if has_std rustc; then
    rustc=rustc
else
    rustc=$work/rustc-debian
    if ! { [ -x "$rustc" ] && has_std "$rustc"; }; then
        echo "emulate_neon: unpacking Debian's rustc for $target below $work" >&2
        command -v apt-get >/dev/null || fail "no standard library for $target: rustup target add $target"
        dpkg --print-foreign-architectures | grep -qx arm64 \
            || fail "no standard library for $target: rustup target add $target, or dpkg --add-architecture arm64 && apt update"
        library=$(apt-cache depends --important libstd-rust-web-dev | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p' | head -1)
        [ -n "$library" ] || fail "this distribution has no package libstd-rust-web-dev: rustup target add $target"
        llvm=$(apt-cache depends --important "$library" | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p' | head -1)
        rm -rf "$work/debs" "$work/debian" && mkdir -p "$work/debs"
        (cd "$work/debs" && apt-get download -q rustc-web libstd-rust-web-dev "$library" "$llvm" libstd-rust-web-dev:arm64)
        for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/debian"; done
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$work/debian/usr/lib/x86_64-linux-gnu" "$work/debian/usr/bin/rustc" >"$rustc"
        chmod +x "$rustc"
        has_std "$rustc" || fail "the unpacked compiler does not find its library; look below $work/debian"
    fi
fi

export RUSTC=$rustc
export RUSTFLAGS="-D warnings ${RUSTFLAGS:-}"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -cpu max -L /usr/aarch64-linux-gnu"

[ $# -gt 0 ] || set -- simd codec:: linear::
exec cargo test --locked --target "$target" --target-dir "$work" --lib --test rust -- "$@"
