#!/bin/sh
# Process 1 of the registry's container: serve.sh STORE MIN_FREE_PERCENT
#
# While the file system of STORE has at least MIN_FREE_PERCENT free, it runs the pull-through registry (proxy.yml). While it has
# less, and while the upstream can't be reached at start (Distribution panics then, or waits for it without listening), it runs a
# read-only registry on the same store (stored.yml): what is cached is served, nothing is stored, and docker goes to the upstream
# for the rest.
# On a switch the old process closes its port at once and drains its pulls; the new one has the port meanwhile.
set -u

store=$1
min_free=$2
configuration=${CONFIGURATION:-/etc/docker-cache}
check_seconds=5
retry_seconds=30
start_seconds=10
port=5000
trial_port=5003
trial_metrics_port=5004

say() {
    echo "serve.sh: $*"
}

free_percent() {
    df -P "$store" | tail -n 1 | { read -r _ _ _ _ used _ && echo $((100 - ${used%\%})); }
}

# One more percent before storing again, so that the two modes do not alternate at the edge.
look_at_disk() {
    free=$(free_percent)
    floor=$min_free
    [ "$low" = yes ] && floor=$((min_free + 1))
    if [ "${free:-0}" -lt "$floor" ]; then
        [ "$low" = no ] && say "$free % of $store is free, less than $min_free %: serving what is stored, storing nothing"
        low=yes
    else
        [ "$low" = yes ] && say "$free % of $store is free again"
        low=no
    fi
}

# Distribution's list of what expires: none of ours does, and a broken one keeps older registries from starting.
forget_expiry() {
    rm -f "$store"/scheduler-state.json "$store"/*/scheduler-state.json
}

# 503 is an answer too: the storage's health is no question of the upstream's.
listens_at() {
    said=$(timeout "$check_seconds" wget -q -O /dev/null "http://127.0.0.1:$1/" 2>&1) && return 0
    case $said in *"server returned error"*) return 0 ;; esac
    return 1
}

# An upstream that takes connections and never answers keeps the registry from listening, and from ending.
end_what_waits() {
    [ "$mode" = stored ] || [ "$listens" = yes ] && return
    if listens_at "$port"; then
        listens=yes
    elif [ "$(($(date +%s) - started_at))" -ge "$start_seconds" ]; then
        say "the registry that pulls through does not listen after $start_seconds seconds"
        kill -KILL "$registry" 2>/dev/null
        wait "$registry" 2>/dev/null
        switched=no
    fi
}

# The registry that serves goes on while another, on ports of its own, shows that the upstream can be reached again.
upstream_is_back() {
    [ "$(date +%s)" -lt "$retry_at" ] && return 1
    REGISTRY_HTTP_ADDR=127.0.0.1:$trial_port REGISTRY_HTTP_DEBUG_ADDR=127.0.0.1:$trial_metrics_port \
        registry serve "$configuration/proxy.yml" >/dev/null 2>&1 &
    trial=$!
    pause
    listens_at "$trial_port" || { kill -0 "$trial" 2>/dev/null && pause && listens_at "$trial_port"; }
    answered=$?
    kill -KILL "$trial" 2>/dev/null
    trial=
    retry_at=$(($(date +%s) + retry_seconds))
    return "$answered"
}

wanted_mode() {
    look_at_disk
    wanted=stored
    [ "$low" = yes ] && return
    if [ "$away" = yes ]; then
        upstream_is_back || return
        away=no
    fi
    wanted=proxy
}

start() {
    mode=$1
    registry serve "$configuration/$mode.yml" &
    registry=$!
    listens=no
    started_at=$(date +%s)
}

switch() {
    [ "$wanted" = proxy ] && say "pulling through again"
    draining="$draining $registry"
    kill -TERM "$registry" 2>/dev/null
    start "$wanted"
    switched=yes
}

# Right after a switch the old process may have held the port still: that is no reason to give the upstream up.
revive() {
    if [ "$mode" = proxy ] && [ "$switched" = no ]; then
        away=yes
        retry_at=$(($(date +%s) + retry_seconds))
        say "the registry that pulls through ended (can it reach the upstream?): serving what is stored until it can"
    fi
    wanted_mode
    start "$wanted"
    switched=no
}

pause() {
    sleep "$check_seconds" &
    wait $!
}

stop() {
    # shellcheck disable=SC2086 # a list of process ids
    kill -TERM "$registry" $draining 2>/dev/null
    # One that waits for its upstream does not end when told to.
    [ -n "$trial" ] && kill -KILL "$trial" 2>/dev/null
    wait
    exit 0
}

draining=
trial=
retry_at=0
away=no
low=no
switched=no
registry=
trap stop TERM INT
forget_expiry
wanted_mode
start "$wanted"

while true; do
    pause
    end_what_waits
    if ! kill -0 "$registry" 2>/dev/null; then
        revive
        continue
    fi
    switched=no
    wanted_mode
    [ "$wanted" = "$mode" ] || switch
done
