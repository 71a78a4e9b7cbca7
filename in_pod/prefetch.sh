#!/bin/sh
# Process 1 of the pod that fetches images ahead: prefetch.sh [IMAGE PLATFORMS]…
#
# regctl pulls each image through the cache's front, verifies it by its digests and throws it away; what it pulled is in the cache
# then. PLATFORMS has commas between, or is `all`. An image that fails is tried again and keeps no other from being pulled. The last
# message, with all that failed, is what Pulumi shows.
set -u

last_message=${TERMINATION_LOG:-/dev/termination-log}
tries=3
retry_seconds=10
failures=
failed=0
pulled=0
line_end='
'

# fetch IMAGE PLATFORM
fetch() {
    if [ "$2" = all ]; then
        set -- "$1"
    else
        set -- --platform "$2" "$1"
    fi
    said=$(regctl --verbosity error image export "$@" 2>&1 >/dev/null) && return
    reason=${said##*"$line_end"}
    return 1
}

# fetch_at_last IMAGE PLATFORM
fetch_at_last() {
    try=1
    until fetch "$1" "$2"; do
        [ "$try" -lt "$tries" ] || return 1
        echo "not yet: $1 ($2): $reason"
        sleep "$retry_seconds"
        try=$((try + 1))
    done
}

# fetch_platforms IMAGE PLATFORM…
fetch_platforms() {
    image=$1
    shift
    for platform in "$@"; do
        begun=$(date +%s)
        if fetch_at_last "$image" "$platform"; then
            pulled=$((pulled + 1))
            echo "in the cache: $image ($platform), $(($(date +%s) - begun)) s"
        else
            failed=$((failed + 1))
            failures="$failures; $image ($platform): $reason"
            echo "failed: $image ($platform): $reason"
        fi
    done
}

while [ $# -gt 1 ]; do
    # shellcheck disable=SC2046 # a list of words
    fetch_platforms "$1" $(echo "$2" | tr , ' ')
    shift 2
done

if [ "$failed" -gt 0 ]; then
    echo "$failed of $((failed + pulled)) could not be fetched ahead$failures" | tee "$last_message"
    exit 1
fi
echo "in the cache: all $pulled"
