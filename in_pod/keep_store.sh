#!/bin/sh
# Process 1 of the container that keeps the stores in order: keep_store.sh STORE MOST_KIB TTL_SECONDS [now]
#
# STORE has Docker Hub's store and, in a folder named by its host, that of every other upstream. What is broken in them goes, so
# that it is fetched anew; with a bound (0 is none) whole images go too, those first that nobody asked for the longest, and then
# the blobs that no manifest needs (keep_store.awk decides). With `now` that is done once, unneeded blobs included, and that's it.
# A blob that the registry is reading stays readable until it is read, as files do.
# The front reports what is asked for: receive_requests.sh touches it.
set -u

store=$1
most=$2
ttl=$3
once=${4:-}
scripts=${SCRIPTS:-/etc/docker-cache-keeper}
work=${WORK:-/tmp}
in_use=${IN_USE_SECONDS:-600}
port=${PORT:-5005}
# A look at a large store takes its time: most of the time is rest.
rest_seconds=60
rest_seconds_without_bounds=600
share_of_rest=10

say() {
    echo "keep_store.sh: $*"
}

layouts() {
    for layout in "$store/docker/registry/v2" "$store"/*/docker/registry/v2; do
        [ -d "$layout" ] && echo "$layout"
    done
}

# What goes while it is looked at is no failure; what can't be looked at would count as not being there.
look() {
    layouts | while IFS= read -r layout; do
        find "$layout" -type f -exec stat -c '%b %Y %s %n' {} + 2>>"$errors"
    done >"$inventory"
    if grep -v 'No such file' "$errors"; then
        say "$store can't be looked at: nothing is removed"
        return 1
    fi
}

tidy() {
    inventory=$work/inventory.$$
    errors=$work/errors.$$
    plan=$work/plan.$$
    : >"$errors"
    sweep=0
    [ "$most" -gt 0 ] || [ "$ttl" -gt 0 ] || [ -n "$once" ] && sweep=1
    look && awk -v top="$store" -v now="$(date +%s)" -v in_use="$in_use" -v ttl="$ttl" -v most="$((most * 2))" \
        -v sweep="$sweep" -v asked="$once" -f "$scripts/keep_store.awk" "$inventory" >"$plan"
    status=$?
    if [ "$status" = 0 ]; then
        sed -n 's/^rm //p' "$plan" | xargs rm -rf || status=1
    fi
    sed -n 's/^say //p' "$plan" | while IFS= read -r line; do say "$line"; done
    rm -f "$inventory" "$errors" "$plan"
    return "$status"
}

receive() {
    while true; do
        nc -l -p "$port" -e sh "$scripts/receive_requests.sh" "$store" || sleep 1
    done
}

pause() {
    sleep "$1" &
    wait $!
}

stop() {
    kill "$receiver" 2>/dev/null
    exit 0
}

if [ -n "$once" ]; then
    tidy
    exit
fi

receive &
receiver=$!
trap stop TERM INT
least=$rest_seconds
[ "$most" -gt 0 ] || [ "$ttl" -gt 0 ] || least=$rest_seconds_without_bounds
while true; do
    began=$(date +%s)
    tidy
    rest=$((share_of_rest * ($(date +%s) - began)))
    pause "$((rest > least ? rest : least))"
done
