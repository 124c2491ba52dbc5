#!/usr/bin/env bash
# Queries a second over TCP, DoT and DoH: pointsman beside the peers that are installed, in turns, medians of the rounds.
#
#   cargo build --release && cargo bench --no-run --bench connections
#   benches/transports.sh [-r ROUNDS] [-s SECONDS] [-t "tcp tcp-new dot doh"] [SERVER...]
#
# Servers: pointsman knot bind dnsdist. Each is pinned to CPU 0 and the generator (dnsperf) to the other CPUs. `tcp` keeps 20
# connections busy with 10 queries each; `tcp-new` makes a connection a query (benches/connections.rs); `dot` is `tcp` inside TLS, `doh` GET over
# HTTP/2 by h2load (nghttp2-client): dnsperf 2.10 stalls, with dnsdist too, where a connection has several requests open.
# Knot of Debian 12 has neither DoT nor DoH. dnsdist answers from its packet cache in front of knotd, which is the best it can do.
# Prints one line a server and transport: median, least and most queries a second, CPU time of the server a query
# in the median round, and the largest share of queries lost.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=5 seconds=5 transports="tcp tcp-new dot doh"
while getopts r:s:t: option; do
    case $option in
        r) rounds=$OPTARG ;;
        s) seconds=$OPTARG ;;
        t) transports=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
servers=("$@")
[ ${#servers[@]} -gt 0 ] || servers=(pointsman knot bind dnsdist)
export PATH="$PATH:/usr/sbin:/sbin"
program=${POINTSMAN:-target/release/pointsman}
connections=$(ls -t target/release/deps/connections-* 2>/dev/null | grep -v "\.d$" | head -1 || true)
others=$(($(nproc) > 1 ? 1 : 0))
[ "$(nproc)" -le 2 ] || others="1-$(($(nproc) - 1))"

dir=$(mktemp -d)
pids=()
finish() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT

# A zone of twenty hosts, the queries for them, a certificate.
{
    printf '$TTL 300\n@ SOA ns h 1 3600 900 604800 60\n@ NS ns\nns A 192.0.2.53\n'
    for n in $(seq 20); do printf 'app%02d A 192.0.2.%d\napp%02d AAAA 2001:db8::%d\n' "$n" "$n" "$n" "$n"; done
} >"$dir/app.example.zone"
for n in $(seq 20); do printf 'app%02d.app.example A\napp%02d.app.example AAAA\n' "$n" "$n"; done >"$dir/queries"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
chmod -R a+rX "$dir"

base=$((20000 + $$ % 5000))
port() { # SERVER TRANSPORT
    case $1 in pointsman) n=0 ;; knot) n=10 ;; bind) n=20 ;; dnsdist) n=30 ;; esac
    case $2 in tcp*) ;; dot*) n=$((n + 1)) ;; doh) n=$((n + 2)) ;; api) n=$((n + 3)) ;; esac
    echo $((base + n))
}
can() { # SERVER TRANSPORT
    case $1-$2 in knot-do*) return 1 ;; esac
}
declare -A pid_of
start() { # SERVER COMMAND...
    taskset -c 0 "${@:2}" >"$dir/$1.log" 2>&1 &
    pids+=($!)
    pid_of[$1]=$!
}
cpu() { # SERVER: microseconds of CPU that it has used
    awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) * 1000000 / tick }' "/proc/${pid_of[$1]}/stat"
}

start_pointsman() {
    cat >"$dir/pointsman.toml" <<EOT
version = 1
[node]
name = "bench"
data-dir = "data"
[dns]
listen = ["127.0.0.1:$(port pointsman tcp)"]
tls-listen = ["127.0.0.1:$(port pointsman dot)"]
https-listen = ["127.0.0.1:$(port pointsman doh)"]
tls = { cert = "cert.pem", key = "key.pem" }
workers = 1
[api]
listen = "127.0.0.1:$(port pointsman api)"
[[zone]]
name = "app.example."
file = "app.example.zone"
EOT
    [ -z "${NO_TLS:-}" ] || sed -i '/^tls/d;/^https/d' "$dir/pointsman.toml"
    start pointsman "$program" serve --config "$dir/pointsman.toml"
}
start_knot() {
    mkdir -p "$dir/knot"
    cat >"$dir/knot.conf" <<EOT
server:
    listen: 127.0.0.1@$(port knot tcp)
    rundir: $dir/knot
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-max-clients: 10000
database:
    storage: $dir/knot
zone:
  - domain: app.example
    file: $dir/app.example.zone
EOT
    start knot knotd -c "$dir/knot.conf"
}
start_bind() {
    mkdir -p "$dir/bind"
    cat >"$dir/named.conf" <<EOT
tls bench { cert-file "$dir/cert.pem"; key-file "$dir/key.pem"; };
http bench { endpoints { "/dns-query"; }; listener-clients 10000; streams-per-connection 1000; };
options {
    directory "$dir/bind"; pid-file none; session-keyfile none; recursion no; minimal-responses yes; tcp-clients 10000;
    listen-on port $(port bind tcp) { 127.0.0.1; };
    listen-on port $(port bind dot) tls bench { 127.0.0.1; };
    listen-on port $(port bind doh) tls bench http bench { 127.0.0.1; };
    listen-on-v6 { none; };
};
controls { };
zone "app.example" { type primary; file "$dir/app.example.zone"; };
EOT
    start bind named -g -n 1 -c "$dir/named.conf"
}
start_dnsdist() {
    cat >"$dir/dnsdist.conf" <<EOT
setLocal("127.0.0.1:$(port dnsdist tcp)", {maxInFlight=1000})
addTLSLocal("127.0.0.1:$(port dnsdist dot)", "$dir/cert.pem", "$dir/key.pem", {maxInFlight=1000})
addDOHLocal("127.0.0.1:$(port dnsdist doh)", "$dir/cert.pem", "$dir/key.pem", "/dns-query")
newServer({address="127.0.0.1:$(port knot tcp)", useClientSubnet=false})
setMaxTCPClientThreads(1)
getPool(""):setCache(newPacketCache(10000))
EOT
    start dnsdist dnsdist --supervised --disable-syslog -C "$dir/dnsdist.conf"
}

# app01.app.example A, in base64url (RFC 8484 §4.1).
doh_query=AAABAAABAAAAAAAABWFwcDAxA2FwcAdleGFtcGxlAAABAAE
load() { # SERVER TRANSPORT SECONDS: queries a second and share lost
    local flags=(-m tcp -c 20 -q 200)
    case $2 in
        tcp-new)
            taskset -c "$others" "$connections" "127.0.0.1:$(port "$1" tcp)" "$3"
            return
            ;;
        dot) flags=(-m dot -c 20 -q 200) ;;
        doh)
            taskset -c "$others" h2load -c 20 -m 10 -D "$3" "https://127.0.0.1:$(port "$1" doh)/dns-query?dns=$doh_query" 2>/dev/null |
                awk '/^finished/ { rate = $4 } /^requests/ { failed = $2 ? 100 * ($10 + $12) / $2 : 0 } END { printf "%d %.2f\n", rate, failed }'
            return
            ;;
    esac
    taskset -c "$others" dnsperf -s 127.0.0.1 -p "$(port "$1" "$2")" -d "$dir/queries" -l "$3" "${flags[@]}" 2>/dev/null |
        awk '/Queries lost/ { gsub(/[(%)]/, ""); lost = $4 } /Queries per second/ { rate = $4 } END { printf "%d %s\n", rate, lost == "" ? "?" : lost }'
}

present=()
for server in "${servers[@]}"; do
    case $server in
        pointsman) [ -x "$program" ] && [ -n "$connections" ] || { echo "no $program: see the head of this file" >&2; exit 1; } ;;
        knot) command -v knotd >/dev/null || { echo "without knotd, which is not installed" >&2; continue; } ;;
        bind) command -v named >/dev/null || { echo "without named, which is not installed" >&2; continue; } ;;
        dnsdist) command -v dnsdist >/dev/null && command -v knotd >/dev/null || { echo "without dnsdist, which is not installed" >&2; continue; } ;;
        *) echo "unknown server $server" >&2; exit 2 ;;
    esac
    present+=("$server")
done
# dnsdist asks knotd.
case " ${present[*]} " in *" knot "*) ;; *" dnsdist "*) start_knot ;; esac
for server in "${present[@]}"; do "start_$server"; done
for server in "${present[@]}"; do
    for _ in $(seq 100); do
        dig +tcp +short +time=1 +tries=1 -p "$(port "$server" tcp)" @127.0.0.1 app01.app.example A 2>/dev/null | grep -q 192.0.2.1 && continue 2
        sleep 0.1
    done
    echo "$server does not answer:" >&2
    cat "$dir"/*.log >&2
    exit 1
done

for round in $(seq "$rounds"); do
    for transport in $transports; do
        for server in "${present[@]}"; do
            can "$server" "$transport" || continue
            before=$(cpu "$server")
            loaded=$(load "$server" "$transport" "$seconds")
            rate=${loaded% *}
            each=$(awk -v a="$before" -v b="$(cpu "$server")" -v n=$((rate * seconds)) 'BEGIN { printf "%.1f", n ? (b - a) / n : 0 }')
            echo "$server $transport $loaded $each" >>"$dir/raw"
            echo "round $round: $(tail -1 "$dir/raw")" >&2
        done
    done
done
printf '%-10s %-10s %10s %10s %10s %9s %7s\n' transport server median least most "us CPU/q" "lost %"
for transport in $transports; do
    for server in "${present[@]}"; do
        can "$server" "$transport" || continue
        awk -v s="$server" -v t="$transport" '$1 == s && $2 == t { print $3, $4, $5 }' "$dir/raw" | sort -n |
            awk -v s="$server" -v t="$transport" '{ rate[NR] = $1; each[NR] = $3; if ($2 + 0 >= lost + 0) lost = $2 }
                END { m = int((NR + 1) / 2); printf "%-10s %-10s %10d %10d %10d %9s %7s\n", t, s, rate[m], rate[1], rate[NR], each[m], lost }'
    done
done
