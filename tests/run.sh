#!/usr/bin/env bash
# The one test command: formatting, lints, documentation, and every test, on a fresh Debian 12 with Rust and gcc.
# Installs with apt what the tests compare with (other name servers, PostgreSQL, dig) where it is missing.
#
#   tests/run.sh           everything, under 25 minutes on 2 cores
#   tests/run.sh --soak    after the rest, more of the simulation, the properties and the kills: about an hour
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(bind9-dnsutils bind9-utils ldnsutils nsd knot knot-dnsutils unbound postgresql mariadb-server nginx-light python3-venv curl iproute2 strace
    dnsperf nghttp2-client valgrind)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}" >&2
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    # The tests start what they need themselves, on ports of their own: keep the packages from starting daemons.
    guard=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$guard" >/dev/null
        "${as_root[@]}" chmod +x "$guard"
        made=1
    fi
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
    [ -z "$made" ] || "${as_root[@]}" rm -f "$guard"
fi
# Debian keeps the servers in sbin, which is not on everybody's path.
export PATH="$PATH:/usr/sbin:/sbin"

step() { printf '\n== %s\n' "$*" >&2; }

step "formatting"
cargo fmt --check
step "lints"
cargo clippy --all-targets --quiet -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet
step "one TLS provider"
if cargo tree --all-features -e normal,build,dev -i aws-lc-sys >/dev/null 2>&1; then
    echo "aws-lc-sys is in the graph: some dependency has its default TLS features on" >&2
    exit 1
fi
step "tests"
cargo test --no-fail-fast
step "benchmarks run"
cargo bench --quiet -- --test
if [ "${1:-}" = --soak ]; then
    step "soak: simulation, properties, kills"
    SIMULATION_RUNS=30000 PROPTEST_CASES=5000 POINTSMAN_SOAK=1 cargo test --test simulation --test kill --test answer_properties --test config_fuzz -- --nocapture
fi
