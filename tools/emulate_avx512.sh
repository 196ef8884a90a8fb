#!/usr/bin/env bash
# Runs the crate's tests on an emulated processor with AVX-512 and AMX (Bochs, Sapphire Rapids): for machines whose own has none.
#
#   tools/emulate_avx512.sh               the batteries over all tables: tests named simd, codec or linear
#   tools/emulate_avx512.sh logits sampler  unit and integration tests whose name contains one of these
#   RELEASE=1 tools/emulate_avx512.sh     the same, built with optimization
#   BINARIES='a b' tools/emulate_avx512.sh  with test binaries built before
#
# User-mode emulators leave AVX-512 out, QEMU's system emulator too; Bochs has it. So a Debian kernel boots under Bochs with
# an initial file system that holds the test binary and the libraries it needs, runs it, and prints over the serial line.
# Booting takes about half a minute; after that expect some tens of millions of instructions a second.
#
# Needs, from Debian 12 or later:
#   apt install busybox-static isolinux syslinux-common xorriso g++ make git
# Downloads, once, into target/emulation (nothing is installed):
#   the package linux-image-cloud-amd64's kernel    or KERNEL=/path/to/vmlinuz
#   the source of Bochs 3.0, built there            or BOCHS=/path/to/a/built/source/tree
# Debian's own package of Bochs is built with a debugger and a tenth as fast, and lacks the changes explained below.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/target/emulation
bochs=${BOCHS:-$work/bochs}
kernel=${KERNEL:-$work/vmlinuz}
limit_s=${LIMIT_S:-1500}
mkdir -p "$work"

fail() { printf 'emulate_avx512: %s\n' "$*" >&2; exit 1; }
need() { [ -e "$1" ] || fail "$1 is missing: apt install $2"; }

[ "$(uname -m)" = x86_64 ] || fail "the kernel and the test binary are x86-64: run this on such a machine"
need /bin/busybox busybox-static
need /usr/lib/ISOLINUX/isolinux.bin isolinux
need /usr/lib/syslinux/modules/bios/ldlinux.c32 syslinux-common
command -v xorriso >/dev/null || fail "xorriso is missing: apt install xorriso"

if ! [ -e "$kernel" ]; then
    package=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1)
    [ -n "$package" ] || fail "this distribution has no package linux-image-cloud-amd64: give KERNEL=/path/to/vmlinuz"
    rm -rf "$work/kernel" && mkdir -p "$work/kernel"
    (cd "$work/kernel" && apt-get download -q "$package" && dpkg -x ./*.deb .)
    cp "$work"/kernel/boot/vmlinuz-* "$kernel"
fi

if ! [ -x "$bochs/bochs" ]; then
    rm -rf "$work/bochs-git" "$bochs"
    git clone -q --depth 1 --branch REL_3_0_FINAL https://github.com/bochs-emu/Bochs "$work/bochs-git" \
        || fail "no source of Bochs: clone https://github.com/bochs-emu/Bochs at REL_3_0_FINAL elsewhere, build it, give BOCHS=…/bochs"
    mv "$work/bochs-git/bochs" "$bochs"
    # Four changes to Bochs 3.0:
    # - It does not know the register IA32_MISC_ENABLE and reads it as 0: "fast strings off". Linux then takes a memcpy that
    #   no real processor of this age runs, which goes astray in the middle of its start. Bit 0 says "fast strings on".
    # - With AMX, decoded instructions may lie in the next group of 128, which a write to the code then forgets to look at.
    # - Linux uses tiles only where it can trap their first use (XFD). Bochs never traps; with one process that has tiles,
    #   nothing is lost.
    # - tdpbssd took its signed bytes as unsigned ones, against Intel's manual.
    sed -i 's/^\( *\)BX_ERROR(("RDMSR: Unknown register %#x", index));$/\1if (index == 0x1a0) val_64 = 1;\n&/' "$bochs/cpu/msr.cc"
    sed -i '/if (line_mask > mask) break;/d' "$bochs/cpu/icache.h"
    sed -i -e 's/^      leaf->eax |= (1<<3);$/&\n    if (is_cpu_extension_supported(BX_ISA_AMX)) leaf->eax |= (1<<4);/' \
        -e 's/^      leaf->ecx = (cpu->ia32_xss_suppmask & (1 << subfunction)) != 0;$/&\n      if (subfunction == 18) leaf->ecx |= (1<<2);/' "$bochs/cpu/cpuid.cc"
    sed -i '/Bit32u DPBDSS/,/^}/ s/Bit8u/Bit8s/g' "$bochs/cpu/avx/amx.cc"
    if ! grep -q 'index == 0x1a0' "$bochs/cpu/msr.cc" || grep -q 'line_mask > mask' "$bochs/cpu/icache.h" \
        || [ "$(grep -c '(1<<4);\|subfunction == 18' "$bochs/cpu/cpuid.cc")" -lt 2 ] || ! grep -q 'const Bit8s xbyte' "$bochs/cpu/avx/amx.cc"; then
        fail "the source of Bochs is not the one this script expects"
    fi
    (cd "$bochs" && ./configure -q --enable-all-optimizations --enable-x86-64 --enable-avx --enable-evex --enable-amx --enable-protection-keys \
        --enable-pci --with-nogui --disable-docbook --disable-stats CFLAGS='-O2 -w' CXXFLAGS='-O2 -w' && make -j"$(nproc)") \
        >"$work/bochs-build.log" 2>&1 || fail "Bochs does not build: see $work/bochs-build.log"
fi

# The unit tests and the integration tests, as an ordinary build makes them.
binaries=${BINARIES:-$(cargo test --locked --lib --test rust --no-run ${RELEASE:+--release} --message-format=json \
    | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')}
[ -n "$binaries" ] || fail "cargo built no test binary"

rm -rf "$work/guest" "$work/iso" && mkdir -p "$work"/guest/{bin,proc,sys,dev,tmp,tests} "$work/iso"
cp /bin/busybox "$work/guest/bin/"
mkdir -p "$work/guest$PWD/tests" && cp -r tests/golden "$work/guest$PWD/tests/" && cp -r src "$work/guest$PWD/"
for binary in $binaries; do
    cp "$binary" "$work/guest/tests/" && strip --strip-debug "$work/guest/tests/$(basename "$binary")"
    ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$work/guest$(dirname "$library")" && cp -L "$library" "$work/guest$library"
    done
done
filters=("$@")
[ $# -gt 0 ] || filters=(simd codec:: linear::)
cat >"$work/guest/init" <<GUEST
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
/bin/busybox --install -s /bin # the tests call a few commands
export PATH=/bin
echo "emulated processor:" \$(/bin/busybox sed -n 's/^model name.*: //p' /proc/cpuinfo)
echo "emulated features:" \$(/bin/busybox sed -n 's/^flags.*: //p' /proc/cpuinfo | /bin/busybox tr ' ' '\n' | /bin/busybox grep -e avx512 -e amx)
status=0
for tests in /tests/*; do
    /bin/busybox echo "\$tests"
    \$tests --test-threads=1 --nocapture $(printf "'%s' " "${filters[@]}") || status=1
done
echo "tests ended with status \$status"
/bin/busybox sleep 1
/bin/busybox poweroff -f
GUEST
chmod +x "$work/guest/init"
(cd "$work/guest" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/iso/initrd.img"
cp "$kernel" "$work/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso/"
cat >"$work/iso/isolinux.cfg" <<'BOOT'
DEFAULT tests
PROMPT 0
LABEL tests
 KERNEL vmlinuz
 APPEND initrd=initrd.img console=ttyS0,115200 quiet audit=0 lsm=capability mitigations=off nokaslr panic=-1
BOOT
xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso" 2>/dev/null

# A thousand million instructions count as twenty seconds of the guest's time.
cat >"$work/bochsrc" <<CONFIG
config_interface: textconfig
display_library: nogui
cpu: model=sapphire_rapids, count=1, ips=50000000, reset_on_triple_fault=0, exclude_features="la57"
memory: guest=1024, host=1024
romimage: file=$bochs/bios/BIOS-bochs-latest, options=fastboot
vgaromimage: file=$bochs/bios/VGABIOS-lgpl-latest.bin
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial.txt
log: $work/bochs.log
panic: action=fatal
CONFIG
rm -f "$work/serial.txt"
timeout "$limit_s" "$bochs/bochs" -q -f "$work/bochsrc" >/dev/null 2>&1 </dev/null || true
[ -s "$work/serial.txt" ] || fail "the guest printed nothing: see $work/bochs.log"
tr -d '\r' <"$work/serial.txt" | grep -v '^\['
for feature in avx512f avx512bw avx512vl avx512vbmi avx512_vnni amx_tile amx_int8; do
    grep -qw "$feature" "$work/serial.txt" || fail "the guest sees no $feature: not all tables ran"
done
# A processor with the features may still not run a table: AMX asks the system, and compares a product first.
! grep -E 'table a[a-z0-9]+ skipped' "$work/serial.txt" || fail "a table of this architecture did not run"
grep -q '^tests ended with status 0' <(tr -d '\r' <"$work/serial.txt") || fail "the tests failed, or did not end within $limit_s s (see $work/bochs.log)"
