#!/bin/sh
# Beside the front: front_metrics.sh FOLDER VARNISH_FOLDER UPSTREAM…
#
# Writes into FOLDER what the front has counted, for node_exporter's textfile collector. Varnish's own counters do not tell one
# upstream from another, so requests are counted from its log. The log goes to a file that is taken away every few seconds and
# counted in the round after, when nothing writes to it any more: so any awk will do.
set -u

folder=$1
varnish=$2
shift 2
scripts=${CONFIGURATION:-/etc/docker-cache}
round_seconds=${ROUND_SECONDS:-5}
log=$folder/requests.log
taken=$folder/taken.log
reader=$folder/varnishncsa.pid
# Side; upstream, kind and how it was answered, as the front's rules have logged them; upstream and kind as they are asked of a
# registry (a client may send headers of these names, so its own count for nothing); status, bytes, seconds to the first byte, bytes
# that were there at a hit on an object still in flight, backend, why a fetch failed.
fields='%{Varnish:side}x	%{VCL_Log:upstream}x	%{VCL_Log:kind}x	%{VCL_Log:cache}x	%{VSL:BereqHeader:X-DC-Upstream}x	%{VSL:BereqHeader:X-DC-Kind}x	%s	%b	%{Varnish:time_firstbyte}x	%{VSL:Hit[5]}x	%{VSL:BackendOpen[2]}x	%{VSL:FetchError}x'
# Varnish's processes are another container's, where this one can't see them.
export VSM_NOPID=1

say() {
    echo "front_metrics.sh: $*"
}

# The totals survive a restart of this container: they begin with what was written last.
count() {
    [ -e "$folder/front.prom" ] || : >"$folder/front.prom"
    varnishstat -n "$varnish" -t 1 -1 >"$folder/varnishstat" 2>/dev/null || : >"$folder/varnishstat"
    if awk -v upstreams="$*" -f "$scripts/front_metrics.awk" from=totals "$folder/front.prom" from=log "$taken" \
        from=varnishstat "$folder/varnishstat" >"$folder/front.new"; then
        mv "$folder/front.new" "$folder/front.prom"
    else
        say "could not count the requests of the last $round_seconds s"
    fi
}

reads() {
    [ -e "$reader" ] && kill -0 "$(cat "$reader")" 2>/dev/null
}

# Only as a daemon does it open its file anew.
begin_to_read() {
    [ -e "$varnish/_.vsm_mgt/_.index" ] || return
    rm -f "$log" "$reader"
    varnishncsa -D -P "$reader" -n "$varnish" -t 5 -b -c -F "$fields" -w "$log" || say "the front's log can't be read yet"
}

take() {
    mv "$log" "$taken" 2>/dev/null || : >"$taken"
    kill -HUP "$(cat "$reader")"
}

# It never ends by itself: a container that is not ready would take the whole pod's traffic away.
trap 'exit 0' TERM INT
: >"$taken"
# One that this container had before it was restarted is no process of this one.
rm -f "$reader"
while true; do
    reads || begin_to_read
    sleep "$round_seconds" &
    wait $!
    count "$@"
    : >"$taken"
    reads && take
done
