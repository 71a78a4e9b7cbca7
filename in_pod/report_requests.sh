#!/bin/bash
# Tells the keeper of the stores what is asked for at the front: report_requests.sh HOST PORT
#
# What is asked for is told within a second or so, and when it is asked for again, again after a minute. Without an answer it is
# told once more later. (The front's image has bash, which alone can connect by itself; a keeper that is away costs nothing.)
set -u

keeper=$1
port=$2
work=${WORK:-/var/lib/varnish}
again_seconds=60
answer_seconds=5
pause_seconds=${PAUSE_SECONDS:-5}
most=5000
# Varnish's processes are another container's, where this one can't see them.
export VSM_NOPID=1

declare -A told=() waiting=()
trap 'exit 0' TERM INT

note() {
    [ -n "$1" ] || return
    local since=$((EPOCHSECONDS - ${told[$1]:-0}))
    if [ "$since" -ge "$again_seconds" ] && [ "${#waiting[@]}" -lt "$most" ]; then
        waiting[$1]=yes
    fi
}

# In a process of its own: a connection that is not answered can be ended.
tell() {
    # shellcheck disable=SC2016 # the inner shell's own
    printf '%s\n' "${!waiting[@]}" end | timeout "$answer_seconds" bash -c '
        exec 3<>"/dev/tcp/$0/$1" && cat >&3 && read -r answer <&3 && [ "$answer" = ok ]' "$keeper" "$port" 2>/dev/null
}

report() {
    [ "${#waiting[@]}" -gt 0 ] && [ "$EPOCHSECONDS" -ge "$next" ] || return
    next=$((EPOCHSECONDS + 1))
    if tell; then
        [ "${#told[@]}" -gt "$most" ] && told=()
        for line in "${!waiting[@]}"; do told[$line]=$EPOCHSECONDS; done
        waiting=()
    else
        next=$((EPOCHSECONDS + pause_seconds))
    fi
}

next=0
until [ -e "$work/front/_.vsm_mgt/_.index" ]; do sleep 1; done
exec 4< <(exec varnishncsa -n "$work/front" -t off -q 'VCL_Log ~ "^kind:(blob|manifest|tag)$"' \
    -F '%{VCL_Log:upstream}x %{VCL_Log:path}x')
while true; do
    if IFS= read -r -t 1 line <&4; then
        note "$line"
    elif [ $? -le 128 ]; then
        exit 1
    fi
    report
done
