#!/bin/sh
# The access log: a line of JSON for each request that the front has answered, but for probes and its own.
set -u

work=${WORK:-/var/lib/varnish}
# Varnish's processes are another container's, where this one can't see them.
export VSM_NOPID=1

log=
trap 'kill "$log" 2>/dev/null; exit 0' TERM INT

field() {
    printf '"%s":"%s",' "$1" "$2"
}

format="{$(field time '%{%Y-%m-%dT%H:%M:%SZ}t')$(field client '%h')$(field user '%u')$(field method '%m')"
format="$format$(field upstream '%{VCL_Log:upstream}x')$(field kind '%{VCL_Log:kind}x')$(field path '%{VCL_Log:path}x')"
format="$format$(field cache '%{VCL_Log:cache}x')$(field agent '%{User-Agent}i')"
format="$format\"status\":%s,\"bytes\":%O,\"microseconds\":%D,\"first_byte_seconds\":\"%{Varnish:time_firstbyte}x\"}"

# A container that ends would take the whole pod out of the Service, with all of its hits.
while true; do
    if [ -e "$work/front/_.vsm_mgt/_.index" ]; then
        varnishncsa -n "$work/front" -t off -j -q 'ReqURL ne "/healthz" and ReqURL ne "/older"' -F "$format" &
        log=$!
        wait "$log"
    fi
    sleep 1
done
