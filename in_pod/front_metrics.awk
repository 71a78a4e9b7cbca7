# Adds the requests of a log to the totals so far and prints everything in Prometheus' text format; front_metrics.sh calls it with
# from=totals, from=log and from=varnishstat before the file of that name. Any awk: no arrays of arrays, no sorting.

BEGIN {
    codes = split("200 429 503 none", code_names, " ")
    kinds = split("tag manifest blob", kind_names, " ")
    bounds = split("0.01 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60", bound, " ")
    for (count = split(upstreams, names, " "); count > 0; count--) begin(names[count])
}

from == "totals" { restore($0) }
from == "log" { read_request($0) }
from == "varnishstat" { read_counter($0) }

END {
    counter("requests_total", "Requests that the front has answered, by how: hit, miss, pass, stale, failed or refused.")
    counter("served_bytes_total", "Bytes of bodies that the front has sent to clients.")
    counter("joined_requests_total", "Requests that were answered from a download already in flight.")
    histogram("answer_seconds", "Seconds from a client's request to the first byte of its answer.")
    counter("fetches_total", "Requests of the front to the registry of an upstream; the code none is one that did not answer.")
    counter("fetched_bytes_total", "Bytes of bodies that the front has fetched from the registry of an upstream.")
    histogram("fetch_seconds", "Seconds from the front's request to the first byte of the registry's answer.")
    total("hot_failures_total", "Downloads that ended early, since the hot tier had no room, not even by evicting.", value["hot_failures_total"])
    if (!has_stat) exit
    gauge("waiting_requests", "Requests that wait for another one's download to begin.", stat["MAIN.busy_sleep"] - stat["MAIN.busy_wakeup"] - stat["MAIN.busy_killed"])
    gauge("requests_in_flight", "Requests that are being answered.", requests_live)
    gauge("downloads_in_flight", "Fetches of the front that are not done.", stat["MEMPOOL.busyobj.live"])
    gauge("hot_used_bytes", "Bytes of the hot tier that are in use.", stat["SMF.hot.g_bytes"])
    gauge("hot_free_bytes", "Bytes of the hot tier that are free.", stat["SMF.hot.g_space"])
    # Varnish counts them for all of its stores together.
    total("hot_evictions_total", "Objects that had to leave the hot tier, or one of the small stores beside it, for others.", stat["MAIN.n_lru_nuked"])
}

# What has not happened yet is 0: else the first time would be no increase.
function begin(upstream,    i, j) {
    known[upstream] = 1
    for (i = 1; i <= kinds; i++) {
        add("requests_total", label(upstream) ",kind=\"" kind_names[i] "\",result=\"hit\",code=\"200\"", 0)
        add("requests_total", label(upstream) ",kind=\"" kind_names[i] "\",result=\"miss\",code=\"200\"", 0)
        add("served_bytes_total", label(upstream) ",kind=\"" kind_names[i] "\",result=\"hit\"", 0)
        add("served_bytes_total", label(upstream) ",kind=\"" kind_names[i] "\",result=\"miss\"", 0)
        for (j = 1; j <= codes; j++) add("fetches_total", label(upstream) ",kind=\"" kind_names[i] "\",code=\"" code_names[j] "\"", 0)
        add("requests_total", label(upstream) ",kind=\"" kind_names[i] "\",result=\"failed\",code=\"503\"", 0)
        add("fetched_bytes_total", label(upstream) ",kind=\"" kind_names[i] "\"", 0)
    }
    add("joined_requests_total", label(upstream), 0)
    observe("answer_seconds", label(upstream), 0, 0)
    observe("fetch_seconds", label(upstream), 0, 0)
}

function add(family, labels, amount) {
    value[family "{" labels "}"] += amount
}

function restore(line) {
    if (line !~ /^docker_cache_/ || !match(line, / [^ ]*$/)) return
    value[substr(line, 14, RSTART - 14)] = substr(line, RSTART + 1)
}

function read_request(line,    fields) {
    if (split(line, fields, "\t") != 12) return
    if (fields[7] !~ /^[1-5][0-9][0-9]$/) fields[7] = "none"
    if (fields[1] == "c") read_client(label(fields[2]), kind_of(fields[3]), fields)
    if (fields[1] == "b" && fields[11] !~ /^(credentials|older)$/) read_fetch(label(fields[5]), kind_of(fields[6]), fields)
}

# A client may name any upstream: it must not make a series of its own.
function label(upstream) {
    return "upstream=\"" ((upstream in known) ? upstream : "none") "\""
}

function kind_of(name) {
    return name ~ /^(blob|manifest|tag)$/ ? name : "other"
}

function read_client(labels, kind, fields,    result) {
    result = fields[4]
    if (result !~ /^(hit|miss|pass|stale)$/) result = fields[7] ~ /^(5..|429|none)$/ ? "failed" : "refused"
    # Probes, and what the front says of itself, to itself too.
    if (result == "refused" && fields[7] ~ /^(2..|304)$/) return
    add("requests_total", labels ",kind=\"" kind "\",result=\"" result "\",code=\"" fields[7] "\"", 1)
    add("served_bytes_total", labels ",kind=\"" kind "\",result=\"" result "\"", fields[8])
    if (fields[10] ~ /^[0-9]/) add("joined_requests_total", labels, 1)
    if (result != "refused") observe("answer_seconds", labels, fields[9], 1)
}

function read_fetch(labels, kind, fields,    code) {
    code = fields[11] ~ /^-?$/ ? "none" : fields[7]
    add("fetches_total", labels ",kind=\"" kind "\",code=\"" code "\"", 1)
    add("fetched_bytes_total", labels ",kind=\"" kind "\"", fields[8])
    if (code != "none") observe("fetch_seconds", labels, fields[9], 1)
    # Varnish's counter of failures counts every try before it evicts.
    if (kind == "blob" && fields[12] ~ /^Could not get storage/) value["hot_failures_total"]++
}

function observe(family, labels, seconds, times,    i) {
    if (seconds !~ /^[0-9]/) return
    for (i = 1; i <= bounds; i++) add(family "_bucket", labels ",le=\"" bound[i] "\"", seconds <= bound[i] + 0 ? times : 0)
    add(family "_bucket", labels ",le=\"+Inf\"", times)
    add(family "_sum", labels, seconds)
    add(family "_count", labels, times)
}

function read_counter(line,    fields) {
    if (split(line, fields, /[ ]+/) < 2) return
    has_stat = 1
    stat[fields[1]] = fields[2]
    if (fields[1] ~ /^MEMPOOL\.req[0-9]+\.live$/) requests_live += fields[2]
}

function head(family, kind, help) {
    print "# HELP docker_cache_" family " " help
    print "# TYPE docker_cache_" family " " kind
}

function samples(name,    key, start) {
    start = name "{"
    for (key in value) if (substr(key, 1, length(start)) == start) printf "docker_cache_%s %s\n", key, number(value[key])
}

# %d ends at 2^31 in some awks, and %s rounds to six digits.
function number(amount) {
    return amount == int(amount) ? sprintf("%.0f", amount) : sprintf("%.6f", amount)
}

function counter(family, help) {
    head(family, "counter", help)
    samples(family)
}

function histogram(family, help) {
    head(family, "histogram", help)
    samples(family "_bucket")
    samples(family "_sum")
    samples(family "_count")
}

function gauge(name, help, amount) {
    head(name, "gauge", help)
    print "docker_cache_" name " " number(amount)
}

function total(name, help, amount) {
    head(name, "counter", help)
    print "docker_cache_" name " " number(amount)
}
