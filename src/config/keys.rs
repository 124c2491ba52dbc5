//! Every key of the config with its meaning, and the nearest of several words.
//!
//! [`KEYS`] is the one list: the readers accept no key outside it (a test walks the shipped examples, and
//! reading an unlisted key trips a debug assertion), unknown keys are answered from it, and the README's
//! reference is checked against it. A path leaves out the words that the operator chooses: `app.ttl` is
//! `ttl` in `[app.shop]`; `probe.http.url` is `url` in an `[[app.shop.probe]]` of kind `http`.

/// Every key: its path and one line with the meaning, unit, default and range.
pub const KEYS: &[(&str, &str)] = &[
    ("version", "version of this format; required, 1"),
    ("node", "this server"),
    (
        "node.name",
        "name of this server in the ledger and in logs; required; letters, digits, `.`, `-`, `_`",
    ),
    (
        "node.data-dir",
        "folder for ledger, keys, last health and last good config; required; relative to this file",
    ),
    (
        "node.reload-max-removed",
        "largest share of RRsets that a reload may remove without --force; default \"20%\"; 0% to 100%; below 10 RRsets it never triggers",
    ),
    (
        "node.reload-on-change",
        "true: reload when all files have been quiet for 2 s; default false",
    ),
    (
        "node.suspect-self-above",
        "largest share of the probes, and of the regions, that may be cut off at once before the prober itself is suspected: verdicts are unknown then and no policy moves; default \"50%\"; 50% to 100%; 100%: never suspected",
    ),
    ("dns", "the DNS side"),
    (
        "dns.listen",
        "addresses with ports, UDP and TCP each; default [\"0.0.0.0:53\", \"[::]:53\"]",
    ),
    ("dns.workers", "UDP lanes; default 0, one a core; at most 1024"),
    (
        "dns.nsid",
        "what the server says to clients that ask who it is (RFC 5001); default none; at most 128 printable characters",
    ),
    ("dns.cookies", "false: no DNS cookies (RFC 7873) are given; default true"),
    (
        "dns.cookie-secret-file",
        "file with the cookie secrets, 32 hexadecimal digits a line: the one in use, then the one before or after it; read again at a reload; \
         nodes that share an address share it; default none, the node makes one in its data dir; relative to this file",
    ),
    ("dns.rate-limit", "how often one network is given the same answer over UDP"),
    (
        "dns.rate-limit.responses-per-second",
        "answers of one kind about one name (NXDOMAIN: one zone) to one network; default 200; 0: no limit",
    ),
    (
        "dns.rate-limit.slip",
        "of the answers beyond it every so-many-th is sent short (TC, or BADCOOKIE to clients with cookies); default 2; 0: none, 1: all",
    ),
    ("dns.rate-limit.ipv4-prefix", "bits of an IPv4 network; default 24"),
    ("dns.rate-limit.ipv6-prefix", "bits of an IPv6 network; default 56"),
    (
        "dns.rate-limit.exempt",
        "networks without a limit; default [\"127.0.0.0/8\", \"::1/128\"]",
    ),
    (
        "dns.rate-limit.table-size",
        "networks and answers remembered at once by each UDP lane, 16 octets each; default 65536; 1000 to 100000000",
    ),
    (
        "dns.tls-listen",
        "addresses with ports for DNS over TLS (RFC 7858), mostly 853; default none; needs tls",
    ),
    (
        "dns.quic-listen",
        "addresses with ports for DNS over QUIC (RFC 9250), mostly 853; default none; needs tls",
    ),
    (
        "dns.https-listen",
        "addresses with ports for DNS over HTTPS (RFC 8484), mostly 443; default none; needs tls",
    ),
    ("dns.https-path", "path of DNS over HTTPS; default \"/dns-query\""),
    (
        "dns.tls",
        "certificate and key of the encrypted transports, read again when the files change; default none",
    ),
    ("dns.tls.cert", "file with the certificate chain, PEM; relative to this file"),
    ("dns.tls.key", "file with the private key, PEM; relative to this file"),
    ("api", "HTTP API, console and metrics"),
    (
        "api.listen",
        "address with port; default \"127.0.0.1:8053\"; beyond loopback token-file and tls (or allow-plaintext) are needed",
    ),
    (
        "api.socket",
        "Unix socket with the same API for local users, by their uid; default none; relative to this file",
    ),
    (
        "api.token-file",
        "file with the hashed tokens and their roles; default none; relative to this file",
    ),
    ("api.tls", "certificate and key of the API; default none"),
    ("api.tls.cert", "file with the certificate chain, PEM; relative to this file"),
    ("api.tls.key", "file with the private key, PEM; relative to this file"),
    (
        "api.allow-plaintext",
        "true: the API may listen beyond loopback without tls; default false",
    ),
    (
        "api.metrics-names-max",
        "names with series of their own, and their applications with them; beyond it as many again that have an alert or are away from home; default 1000",
    ),
    ("zone", "one static zone, `[[zone]]`"),
    ("zone.name", "apex of the zone; required"),
    ("zone.file", "its master file (RFC 1035); required; relative to this file"),
    (
        "zone.allow-query",
        "networks whose queries are answered, `[\"192.0.2.0/24\", \"2001:db8::/32\"]`, the others are REFUSED; default everybody",
    ),
    ("region", "one region, `[region.ID]`; ID of lower-case letters, digits, `-`, `_`"),
    ("region.title", "what people call it; default the ID"),
    ("app", "one application, `[app.ID]`; ID of lower-case letters, digits, `-`, `_`"),
    ("app.name", "its main name, inside a zone of this server; required"),
    (
        "app.regions",
        "its regions in order of preference; required; the first is active when the name first appears",
    ),
    (
        "app.ttl",
        "TTL of its answers; default \"30s\"; whole seconds, from 1s; below 5s and above 1d is warned of",
    ),
    (
        "app.failover",
        "who moves the active region: manual, one-way, automatic or follow; default \"manual\"",
    ),
    (
        "app.failover-delay",
        "how long the active region must be unhealthy before a policy moves; default \"0s\"",
    ),
    (
        "app.failback-delay",
        "how long home must be healthy before `automatic` moves back; default \"5m\"",
    ),
    ("app.cooldown", "least time between two moves or switches of a name; default \"1m\""),
    (
        "app.when-all-down",
        "the answer when no endpoint is usable: active, all, servfail, address(es) or a host name; default \"active\"",
    ),
    (
        "app.require",
        "how many counting probes an endpoint must pass: \"all\" or a number; default \"all\"",
    ),
    ("app.paired", "one explicit name a region, `REGION = \"name\"`; default none"),
    (
        "app.endpoints",
        "endpoints a region, `REGION = [\"address\", …]` or one host name; required for every region of `regions`",
    ),
    ("app.probe", "one probe, `[[app.ID.probe]]`, sent to each endpoint"),
    (
        "probe.kind",
        "http, tls, tcp, dns, exec, feed, postgres, mysql, grpc, icmp or smtp; required",
    ),
    (
        "probe.interval",
        "time from one start to the next, before jitter; default \"5s\"; from 100ms to 1d",
    ),
    (
        "probe.recheck-interval",
        "the same from the first failure until fall or rise is reached; from the timeout up to the interval; default as ever",
    ),
    (
        "probe.timeout",
        "longest time one run may take; default \"2s\"; shorter than interval",
    ),
    ("probe.fall", "failures that make an endpoint unhealthy; default 3; 1 to 1000"),
    ("probe.rise", "successes in a row that make it healthy again; default 2; 1 to 1000"),
    (
        "probe.stale-after",
        "how long its evidence is fresh; default 3 × (interval + timeout); at least interval + timeout",
    ),
    ("probe.monitoring-only", "true: shown, not counted; default false"),
    (
        "probe.http.url",
        "http or https URL; sent to each endpoint's address, Host and SNI from the URL; required",
    ),
    ("probe.http.method", "request method; default \"GET\""),
    (
        "probe.http.headers",
        "further request headers, `{ Name = \"value\" }`; default none",
    ),
    (
        "probe.http.body",
        "text to send as the body, with a method that is named; its Content-Type from `headers`; default none; at most 65536 octets",
    ),
    (
        "probe.http.http-version",
        "\"auto\": HTTP/2 where the server offers it over TLS; \"1.1\"; \"2\": also without TLS; default \"auto\"",
    ),
    (
        "probe.http.redirects",
        "most redirects to follow, at the same address and to the same scheme, host and port; default 0; 0 to 10",
    ),
    ("probe.http.expect", "what passes"),
    (
        "probe.http.expect.status",
        "status codes and ranges, `[200, \"300-399\"]`; default [\"200-299\"]",
    ),
    (
        "probe.http.expect.body",
        "text that the body must contain, or a table of comparisons; default none",
    ),
    (
        "probe.http.expect.headers",
        "header fields and what they must be: a value or a table of comparisons; default none",
    ),
    (
        "probe.http.expect.json",
        "JSON pointers (RFC 6901) and what they must point at: a value or a table of comparisons; default none",
    ),
    (
        "probe.http.expect.certificate-days",
        "whole days that the certificate must have left, `{ ge = 14 }`; with an https URL; default none",
    ),
    (
        "probe.http.body-bytes-max",
        "most octets of the body that are read; default 65536; 1 to 16777216",
    ),
    (
        "probe.http.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.http.client-cert",
        "certificate chain (PEM) to show of itself, with client-key; default none; relative to this file",
    ),
    ("probe.http.client-key", "its private key (PEM); relative to this file"),
    ("probe.http.role", "where the application says what it is; default none"),
    ("probe.http.role.json", "JSON pointer (RFC 6901) to the word"),
    ("probe.http.role.header", "or the header field that holds it"),
    ("probe.http.role.body", "or true: the whole body"),
    ("probe.http.role.status", "or true: the status code"),
    ("probe.http.role.active", "the word for active, or a table of comparisons"),
    ("probe.http.role.passive", "the word for passive, or a table of comparisons"),
    (
        "probe.http.value",
        "numbers to take from the answer, `{ NAME = { json = \"/load\" } }`; shown and in the metrics; default none",
    ),
    ("probe.http.value.json", "JSON pointer (RFC 6901) to the number"),
    ("probe.http.value.header", "or the header field that holds it"),
    ("probe.http.value.body", "or true: the whole body"),
    ("probe.http.value.status", "or true: the status code"),
    ("probe.tls.port", "port to connect to; default 443"),
    (
        "probe.tls.server-name",
        "name or address that the certificate must be valid for; default the endpoint as configured",
    ),
    (
        "probe.tls.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.tls.client-cert",
        "certificate chain (PEM) to show of itself, with client-key; default none; relative to this file",
    ),
    ("probe.tls.client-key", "its private key (PEM); relative to this file"),
    (
        "probe.tls.alpn",
        "protocols to offer by ALPN, `[\"h2\"]`, one of which the server must take; default none",
    ),
    ("probe.tls.expect", "what passes"),
    (
        "probe.tls.expect.certificate-days",
        "whole days that the certificate must have left, `{ ge = 14 }`; default none",
    ),
    (
        "probe.tls.expect.chain-length",
        "how many certificates the server shows, its own included; default any",
    ),
    ("probe.tls.expect.alpn", "which of the protocols offered it takes; default any"),
    ("probe.tcp.port", "port to connect to; required"),
    ("probe.tcp.send", "text to send after connecting; default none"),
    ("probe.tcp.expect", "text that must come back; default none"),
    ("probe.dns.port", "port of the DNS server at the endpoint; default 53"),
    ("probe.dns.qname", "name to ask for; required"),
    ("probe.dns.qtype", "type to ask for; default \"A\""),
    ("probe.dns.expect", "what passes"),
    ("probe.dns.expect.rcode", "response code; default \"NOERROR\""),
    (
        "probe.dns.expect.data",
        "presentation forms of data, one of which must be in the answer; default any",
    ),
    (
        "probe.exec.command",
        "program (absolute path) and arguments; {address}, {region} and {endpoint} in an argument are replaced; required",
    ),
    (
        "probe.feed.file",
        "file that is watched, a JSON object; {region} and {endpoint} are filled in; this or `feed`; relative to this file",
    ),
    (
        "probe.feed.feed",
        "id to post to, `POST /v1/feeds/ID`; {region} and {endpoint} are filled in; this or `file`",
    ),
    ("probe.feed.max-age", "what is older is no evidence; default \"30s\""),
    ("probe.feed.expect", "what passes; default the member `healthy`, with `message`"),
    (
        "probe.feed.expect.body",
        "text that the content must contain, or a table of comparisons; default none",
    ),
    (
        "probe.feed.expect.json",
        "JSON pointers (RFC 6901) and what they must point at: a value or a table of comparisons; default none",
    ),
    (
        "probe.feed.role",
        "where it says what the application is; default the member `role`: active or passive",
    ),
    ("probe.feed.role.json", "JSON pointer (RFC 6901) to the word"),
    ("probe.feed.role.body", "or true: the whole content"),
    ("probe.feed.role.active", "the word for active, or a table of comparisons"),
    ("probe.feed.role.passive", "the word for passive, or a table of comparisons"),
    (
        "probe.feed.value",
        "numbers to take from the content, `{ NAME = { json = \"/load\" } }`; default none",
    ),
    ("probe.feed.value.json", "JSON pointer (RFC 6901) to the number"),
    ("probe.feed.value.body", "or true: the whole content"),
    ("probe.exec.expect", "what passes"),
    ("probe.exec.expect.exit-code", "exit codes that pass, `[0, 1]`; default [0]"),
    (
        "probe.exec.expect.body",
        "text that the output must contain, or a table of comparisons; default none",
    ),
    (
        "probe.exec.expect.json",
        "JSON pointers (RFC 6901) into the output and what they must point at: a value or a table of comparisons; default none",
    ),
    ("probe.exec.role", "where the output says what the application is; default none"),
    ("probe.exec.role.json", "JSON pointer (RFC 6901) to the word"),
    ("probe.exec.role.body", "or true: the whole output"),
    ("probe.exec.role.active", "the word for active, or a table of comparisons"),
    ("probe.exec.role.passive", "the word for passive, or a table of comparisons"),
    (
        "probe.exec.value",
        "numbers to take from the output, `{ NAME = { json = \"/load\" } }`; shown and in the metrics; default none",
    ),
    ("probe.exec.value.json", "JSON pointer (RFC 6901) to the number"),
    ("probe.exec.value.body", "or true: the whole output"),
    ("probe.postgres.port", "port; default 5432"),
    ("probe.postgres.user", "role to log in as; required"),
    (
        "probe.postgres.password-file",
        "file with the password, read at each connection; default none; relative to this file",
    ),
    ("probe.postgres.database", "database to connect to; required"),
    ("probe.postgres.query", "further query that must succeed; default none"),
    (
        "probe.postgres.tls",
        "off or require: TLS with a verified certificate; default \"off\": a server that wants the password itself is then refused",
    ),
    (
        "probe.postgres.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.postgres.server-name",
        "name or address that the certificate must be valid for; default the endpoint",
    ),
    ("probe.postgres.expect", "what passes"),
    (
        "probe.postgres.expect.lag-bytes",
        "octets of the log that a standby has still to replay, 0 at a primary: a value or a table of comparisons; default anything",
    ),
    (
        "probe.postgres.expect.lag-seconds",
        "age of the last transaction that a standby replayed, 0 when all is replayed: a value or a table of comparisons; default anything",
    ),
    (
        "probe.postgres.expect.replicating",
        "true: the standby has a connection to its primary; default anything",
    ),
    (
        "probe.postgres.expect.result",
        "what the first column of the query's first row must be: a value or a table of comparisons; default anything",
    ),
    ("probe.mysql.port", "port; default 3306"),
    ("probe.mysql.user", "user to log in as; required"),
    (
        "probe.mysql.password-file",
        "file with the password, read at each connection; default none; relative to this file",
    ),
    ("probe.mysql.query", "further query that must succeed; default none"),
    (
        "probe.mysql.tls",
        "off or require: TLS with a verified certificate; default \"off\": a server that wants the password itself is then refused",
    ),
    (
        "probe.mysql.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.mysql.server-name",
        "name or address that the certificate must be valid for; default the endpoint",
    ),
    ("probe.mysql.expect", "what passes"),
    (
        "probe.mysql.expect.lag-seconds",
        "how far a replica is behind its source, 0 when all that came is executed: a value or a table of comparisons; default anything",
    ),
    (
        "probe.mysql.expect.replicating",
        "true: both threads of the replica run; default anything",
    ),
    (
        "probe.mysql.expect.result",
        "what the first column of the query's first row must be: a value or a table of comparisons; default anything",
    ),
    ("probe.grpc.port", "port; required"),
    (
        "probe.grpc.service",
        "service that grpc.health.v1.Health is asked about; default \"\", the server as a whole",
    ),
    ("probe.grpc.tls", "off or require: TLS with a verified certificate; default \"off\""),
    (
        "probe.grpc.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.grpc.server-name",
        "name or address that the certificate must be valid for, also sent as the authority; default the endpoint",
    ),
    (
        "probe.icmp.payload-octets",
        "octets that the echo request carries; default 32; 16 to 8952",
    ),
    ("probe.icmp.expect", "what passes"),
    (
        "probe.icmp.expect.rtt-ms",
        "milliseconds from the request to its answer: a value or a table of comparisons; default anything",
    ),
    ("probe.smtp.port", "port; default 25, 465 with tls = \"implicit\""),
    (
        "probe.smtp.tls",
        "off, starttls or implicit: TLS with a verified certificate, after STARTTLS or from the beginning; default \"off\"",
    ),
    (
        "probe.smtp.ca",
        "certificates (PEM) to trust instead of the system's; default none; relative to this file",
    ),
    (
        "probe.smtp.server-name",
        "name or address that the certificate must be valid for; default the endpoint",
    ),
    ("probe.smtp.expect", "what passes"),
    (
        "probe.smtp.expect.banner",
        "first line of the greeting behind its code: a value or a table of comparisons; default anything",
    ),
    (
        "probe.smtp.expect.certificate-days",
        "whole days that the certificate is still good for: a value or a table of comparisons; default anything",
    ),
];

/// The keys right below a path; `""` is the top level.
pub(super) fn keys_below(path: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |(key, _)| {
        let rest = match path {
            "" => key,
            _ => key.strip_prefix(path)?.strip_prefix('.')?,
        };
        // Below `probe` stand the common keys; `probe.http.url` has one dot more. The kinds themselves are no keys.
        (!rest.contains('.')).then_some(rest)
    })
}

/// Whether a key stands right below one of the paths.
pub(super) fn is_key(paths: &[&str], key: &str) -> bool {
    paths.iter().any(|path| keys_below(path).any(|known| known == key))
}

/// The word nearest to `word`, where one is near enough to be what was meant.
pub(super) fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    if word.chars().count() > WORD_CHARACTERS_MAX {
        return None;
    }
    let word_plain = plain(word);
    let rated = words.into_iter().map(|other| {
        let other_plain = plain(other);
        // The beginning of a word, long enough not to be chance: `auto`.
        let begins = word_plain.len() >= 3 && other_plain.len() > word_plain.len() && other_plain.starts_with(&word_plain);
        let distance = distance(&word_plain, &other_plain);
        (if begins { distance.min(1) } else { distance }, other)
    });
    let (distance, best) = rated.min_by_key(|(distance, _)| *distance)?;
    let longest = word.chars().count().max(best.chars().count());
    (distance <= (longest / 3).max(1)).then_some(best)
}

/// Longer words are nobody's typing error; it also bounds the work.
const WORD_CHARACTERS_MAX: usize = 64;

/// Lower case with `_` as `-`, so that `DATA_DIR` is `data-dir`.
fn plain(word: &str) -> Vec<char> {
    word.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' { '-' } else { c })
        .collect()
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best = (cell(&last, j) + usize::from(a != b))
                .min(cell(&last, j + 1) + 1)
                .min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_word() {
        let keys: Vec<&str> = keys_below("app").collect();
        for (typed, meant) in [
            ("failovr", Some("failover")),
            ("cool-down", Some("cooldown")),
            ("tll", Some("ttl")),
            ("when_all_down", Some("when-all-down")),
            ("endpoint", Some("endpoints")),
            ("probes", Some("probe")),
            ("fail", Some("failover")),
            ("zebra", None),
        ] {
            assert_eq!(nearest(typed, keys.iter().copied()), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), keys.iter().copied()), None);
    }

    #[test]
    fn keys_are_listed_once_and_below_their_section() {
        let mut paths: Vec<&str> = KEYS.iter().map(|(path, _)| *path).collect();
        paths.sort_unstable();
        let listed = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), listed);
        assert!(is_key(&["probe", "probe.http"], "url"));
        assert!(is_key(&["probe", "probe.http"], "fall"));
        assert!(!is_key(&["probe"], "http"));
        assert!(is_key(&[""], "app"));
        assert!(!is_key(&[""], "ttl"));
    }
}
