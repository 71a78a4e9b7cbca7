#!/bin/sh
# Process 1 of the registry's container: serve.sh STORE MIN_FREE_PERCENT
#
# While the file system of STORE has at least MIN_FREE_PERCENT free, it runs the pull-through registry (proxy.yml). While it has
# less, and while the upstream can't be reached at start (Distribution panics then), it runs a read-only registry on the same
# store (stored.yml): what is cached is served, nothing is stored, and docker goes to the upstream for the rest.
# On a switch the old process closes its port at once and drains its pulls; the new one has the port meanwhile.
set -u

store=$1
min_free=$2
configuration=${CONFIGURATION:-/etc/docker-cache}
check_seconds=5
retry_seconds=30

say() {
    echo "serve.sh: $*"
}

free_percent() {
    df -P "$store" | tail -n 1 | { read -r _ _ _ _ used _ && echo $((100 - ${used%\%})); }
}

start() {
    mode=$1
    registry serve "$configuration/$mode.yml" &
    registry=$!
}

switch_to() {
    draining="$draining $registry"
    kill -TERM "$registry" 2>/dev/null
    start "$1"
    switched=yes
}

# Right after a switch the old process may have held the port still: that is no reason to give the upstream up.
revive() {
    if [ "$mode" = proxy ] && [ "$switched" = no ]; then
        retry_at=$(($(date +%s) + retry_seconds))
        say "the registry that pulls through ended (can it reach the upstream?): serving what is stored for $retry_seconds s"
    fi
    wanted_mode
    start "$wanted"
    switched=no
}

# One more percent before storing again, so that the two do not alternate at the edge.
wanted_mode() {
    free=$(free_percent)
    floor=$min_free
    [ "$mode" = stored ] && [ "$low" = yes ] && floor=$((min_free + 1))
    if [ "${free:-0}" -lt "$floor" ]; then
        low=yes
    else
        low=no
    fi
    if [ "$low" = yes ] || [ "$(date +%s)" -lt "$retry_at" ]; then
        wanted=stored
    else
        wanted=proxy
    fi
}

stop() {
    # shellcheck disable=SC2086 # a list of process ids
    kill -TERM "$registry" $draining 2>/dev/null
    wait
    exit 0
}

draining=
retry_at=0
low=no
mode=proxy
switched=no
wanted_mode
[ "$low" = yes ] && say "$free % of $store is free, less than $min_free %: serving what is stored, storing nothing"
start "$wanted"
trap stop TERM INT

while true; do
    sleep "$check_seconds" &
    wait $!
    if ! kill -0 "$registry" 2>/dev/null; then
        revive
        continue
    fi
    switched=no
    wanted_mode
    [ "$wanted" = "$mode" ] && continue
    if [ "$wanted" = stored ]; then
        say "$free % of $store is free, less than $min_free %: serving what is stored, storing nothing"
    else
        say "$free % of $store is free: pulling through again"
    fi
    switch_to "$wanted"
done
