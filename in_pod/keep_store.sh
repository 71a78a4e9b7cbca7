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
in_use=${IN_USE_SECONDS:-3600}
# After an outage nobody has asked for anything for long: what is asked for now has to be heard of first.
spared_seconds=${SPARED_SECONDS:-3600}
# Below what the container has: if that ran out, the registry's pod would be not ready.
most_memory_kib=${MOST_MEMORY_KIB:-786432}
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

# What is removed while another run looks would make that one fail. One that was ended leaves its lock behind.
lock() {
    attempts=0
    until ln -s "$$" "$work/lock" 2>/dev/null || [ "$attempts" -ge 5 ]; do
        holder=$(readlink "$work/lock")
        if [ -n "$holder" ] && [ "$holder" != "$$" ] && kill -0 "$holder" 2>/dev/null; then
            sleep 1
        else
            rm -f "$work/lock" 2>/dev/null
            attempts=$((attempts + 1))
        fi
    done
}

# By the clock that the files' times are of, an NFS server's maybe. A folder takes no room for it.
time_of_store() {
    { echo "$store" && layouts; } | while IFS= read -r folder; do
        touch "$folder" 2>/dev/null && stat -c %Y "$folder" && break
    done
}

# The files, and "end" if those are all. What goes while it is looked at is no failure; what can't be looked at would count as not
# being there.
look() {
    wrong=$(layouts | while IFS= read -r layout; do
        find "$layout" -type f -exec stat -c '%b %Y %s %n' {} + 2>&1 >&3
        ended=$?
        [ "$ended" -le 1 ] || echo "find ended with status $ended"
    done | grep -v 'No such file')
    if [ -z "$wrong" ]; then echo end; else echo "$wrong" >&2; fi
} 3>&1

# The plan, and "end" if that is all of it.
decide() {
    # shellcheck disable=SC3045 # busybox has it
    ulimit -v "$most_memory_kib"
    awk -v top="$store" -v now="$now" -v in_use="$in_use" -v ttl="$counted_ttl" -v most="$((most * 2))" -v sweep="$sweep" \
        -v asked="$once" -f "$scripts/keep_store.awk"
}

# Never more than a blob, an upload or a link.
may_go() {
    case $1 in
    */../*) return 1 ;;
    "$store"/*docker/registry/v2/*) ;;
    *) return 1 ;;
    esac
    case ${1#*/docker/registry/v2/} in
    blobs/?*/?*/?* | repositories/?*/_uploads/?* | repositories/?*/_layers/?*/?*) ;;
    repositories/?*/_manifests/revisions/?*/?* | repositories/?*/_manifests/tags/?*) ;;
    *) return 1 ;;
    esac
}

# Since it was looked at: somebody has asked for it, or written it anew.
was_touched() {
    if [ -d "$1" ]; then set -- "$1/data" "$1/link" "$1/current/link"; fi
    for when in $(stat -c %Y "$@" 2>/dev/null); do
        [ "$when" -lt "$now" ] || return 0
    done
    return 1
}

# Folders may stay: NFS keeps a file that is being read there under another name.
is_there() {
    [ -f "$1" ] || [ -e "$1/data" ] || [ -e "$1/link" ] || [ -e "$1/current/link" ]
}

remove() {
    failed=
    while IFS= read -r path; do
        if ! may_go "$path"; then
            say "$path is no part of an image: it stays"
            failed=yes
        elif ! was_touched "$path"; then
            wrong=$(rm -rf "$path" 2>&1)
            if is_there "$path"; then
                say "$path can't be removed: $wrong"
                failed=yes
            fi
        fi
    done
    [ -z "$failed" ]
}

# What is left of images that went. Nobody is about to write where nobody has for an hour.
remove_empty_folders() {
    layouts | while IFS= read -r layout; do
        find "$layout/repositories" -depth -mindepth 1 -type d -empty -mmin +60 -exec rmdir {} + 2>/dev/null
    done
}

# Nothing of it lies on a disk: on a full one, lists would end too early.
tidy() {
    counted_ttl=$ttl
    [ -n "$once" ] || [ "$(($(date +%s) - started))" -ge "$spared_seconds" ] || counted_ttl=0
    sweep=0
    [ "$most" -gt 0 ] || [ "$ttl" -gt 0 ] || [ -n "$once" ] && sweep=1
    now=$(time_of_store)
    if [ -z "$now" ]; then
        say "$store has no time: nothing is removed"
        return 1
    fi
    plan=$(look | decide)
    status=0
    case $plan in
    end | *"
end")
        printf '%s\n' "$plan" | sed -n 's/^rm //p' | remove || status=1
        case $plan in *"rm /"*) remove_empty_folders ;; esac
        ;;
    *)
        say "$store can't be looked at: nothing is removed"
        status=1
        ;;
    esac
    printf '%s\n' "$plan" | sed -n 's/^say //p' | while IFS= read -r line; do say "$line"; done
    return "$status"
}

run() {
    lock
    tidy
    ran=$?
    rm -f "$work/lock" 2>/dev/null
    return "$ran"
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

started=$(date +%s)
if [ -n "$once" ]; then
    run
    exit
fi

# Of a process of the container before this one, whose number may be another's now.
rm -f "$work/lock"
receive &
receiver=$!
trap stop TERM INT
least=$rest_seconds
[ "$most" -gt 0 ] || [ "$ttl" -gt 0 ] || least=$rest_seconds_without_bounds
while true; do
    began=$(date +%s)
    run &
    wait $!
    rest=$((share_of_rest * ($(date +%s) - began)))
    pause "$((rest > least ? rest : least))"
done
