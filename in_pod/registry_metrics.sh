#!/bin/sh
# Beside a registry: registry_metrics.sh FOLDER UPSTREAM IMAGE TLS STORE MIN_FREE_PERCENT
#
# Writes into FOLDER, for node_exporter's textfile collector, what the registry has counted, how full its STORE is (/ where it has no
# disk of its own), and whether the upstream answers: IMAGE, an image there, is asked for by HEAD, which the hub does not count as a
# pull. Its answer says how many pulls are left. An image that is not there is an answer, too.
set -u

folder=$1
upstream=$2
image=$3
tls=$4
store=$5
min_free=$6
round_seconds=${ROUND_SECONDS:-15}
ask_every=4
ports=${METRICS_PORTS:-5001 5002}
ask_seconds=20

say() {
    echo "registry_metrics.sh: $*"
}

metric() {
    printf '# HELP docker_cache_%s %s\n# TYPE docker_cache_%s %s\ndocker_cache_%s{upstream="%s"} %s\n' \
        "$1" "$3" "$1" "$2" "$1" "$upstream" "$4"
}

# The registry that pulls through has one port, the read-only one another: which of them answers tells what is running.
registry() {
    proxies=0
    for port in $ports; do
        if timeout 5 wget -q -O "$folder/registry.text" "http://127.0.0.1:$port/metrics" 2>/dev/null; then
            [ "$port" = "${ports%% *}" ] && proxies=1
            metric registry_answers gauge "Whether the registry answers for its counters." 1
            metric registry_proxies gauge "Whether the registry pulls through; 0 is one that serves what is stored." "$proxies"
            awk -v label="upstream=\"$upstream\"" '
                /^#/ { kept = $3 ~ /^registry_(proxy_.*|http_requests_total|storage_action_seconds)$/; if (kept) print; next }
                !kept { next }
                /^[a-z_]+\{/ { sub(/\{/, "{" label ","); print; next }
                { sub(/ /, "{" label "} "); print }' "$folder/registry.text"
            return
        fi
    done
    metric registry_answers gauge "Whether the registry answers for its counters." 0
}

disk() {
    [ "$store" = / ] && return
    df -P -k "$store" | tail -n 1 | {
        read -r _ size _ free _ || return
        metric store_size_bytes gauge "Size of the file system that the store lies on." "$((size * 1024))"
        metric store_free_bytes gauge "What is free of it." "$((free * 1024))"
        metric store_min_free_ratio gauge "The share of it that has to be free for anything to be stored." \
            "$(awk "BEGIN { print $min_free / 100 }")"
    }
}

now() {
    awk '{ print $1 }' /proc/uptime
}

# Errors end with the status in brackets. 429 on a HEAD: nothing is left.
ask() {
    begun=$(now)
    answer=$(timeout "$ask_seconds" regctl --verbosity error image ratelimit "$image" --host "reg=${image%%/*},tls=$tls" \
        --format '{{.Set}} {{.Remain}} {{.Limit}}' 2>&1)
    seconds=$(echo "$begun $(now)" | awk '{ print $2 - $1 }')
    answers=1
    case $answer in
        'true '*) remaining=${answer#true } ;;
        'false '*) remaining= ;;
        *'[http 429]'*)
            # It was tried several times over: how long that took says nothing.
            remaining="0 ${remaining#* }"
            seconds=
            ;;
        *'[http 401]'* | *'[http 403]'* | *'[http 404]'*) remaining= ;;
        *)
            answers=0
            failures=$((failures + 1))
            say "$upstream does not answer: $answer"
            ;;
    esac
}

upstream_metrics() {
    metric upstream_answers gauge "Whether the upstream answers." "$answers"
    metric upstream_failures_total counter "Times that the upstream did not answer when it was asked." "$failures"
    [ "$answers" = 1 ] || return
    [ "$seconds" ] && metric upstream_answer_seconds gauge "Seconds that the upstream took for a HEAD, with its token." "$seconds"
    # Only the hub tells; what it told last is worth nothing while it is silent.
    [ "${remaining% *}" ] && metric ratelimit_remaining gauge "Pulls that the upstream has left for us." "${remaining% *}"
    [ "${remaining#* }" ] && metric ratelimit_limit gauge "Pulls that the upstream allows in its window." "${remaining#* }"
}

sign_in() {
    [ "${REGISTRY_PROXY_USERNAME:-}" ] || return
    printf '%s' "${REGISTRY_PROXY_PASSWORD:-}" |
        regctl registry login "${image%%/*}" --skip-check --user "$REGISTRY_PROXY_USERNAME" --pass-stdin >/dev/null ||
        say "the credentials of $upstream can't be used here: it is asked without"
}

trap 'exit 0' TERM INT
remaining=
failures=0
round=0
sign_in
while true; do
    [ $((round % ask_every)) = 0 ] && ask
    round=$((round + 1))
    { registry; disk; upstream_metrics; } >"$folder/registry.new"
    mv "$folder/registry.new" "$folder/registry.prom"
    sleep "$round_seconds" &
    wait $!
done
