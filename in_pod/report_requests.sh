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
answer_seconds=10
pause_seconds=${PAUSE_SECONDS:-5}
most=5000
most_at_once=500
longest=512
# As the keeper takes them: it would leave out any other.
form='^[a-z0-9][a-z0-9.:-]* /v2/[a-zA-Z0-9._/:-]+$'
# Who was refused has not asked for it: without credentials nobody keeps an image from going.
asked='VCL_Log ~ "^kind:(blob|manifest|tag)$" and not RespStatus ~ "^40[134]$"'
# Varnish's processes are another container's, where this one can't see them.
export VSM_NOPID=1

declare -A told=() waiting=()
trap 'exit 0' TERM INT

note() {
    [ "${#1}" -le "$longest" ] && [[ $1 =~ $form ]] || return
    local since=$((EPOCHSECONDS - ${told[$1]:-0}))
    if [ "$since" -ge "$again_seconds" ] && [ "${#waiting[@]}" -lt "$most" ]; then
        waiting[$1]=yes
    fi
}

# In a process of its own: a connection that is not answered can be ended.
tell() {
    # shellcheck disable=SC2016 # the inner shell's own
    printf '%s\n' "$@" end | timeout "$answer_seconds" bash -c '
        exec 3<>"/dev/tcp/$0/$1" && cat >&3 && read -r answer <&3 && [ "$answer" = ok ]' "$keeper" "$port" 2>/dev/null
}

# As many at a time as the keeper can take before its answer is late.
report() {
    [ "${#waiting[@]}" -gt 0 ] && [ "$EPOCHSECONDS" -ge "$next" ] || return
    next=$((EPOCHSECONDS + 1))
    local all=("${!waiting[@]}") line
    if tell "${all[@]:0:most_at_once}"; then
        [ "${#told[@]}" -gt "$most" ] && told=()
        for line in "${all[@]:0:most_at_once}"; do told[$line]=$EPOCHSECONDS; done
        waiting=()
        for line in "${all[@]:most_at_once}"; do waiting[$line]=yes; done
    else
        next=$((EPOCHSECONDS + pause_seconds))
    fi
}

read_log() {
    until [ -e "$work/front/_.vsm_mgt/_.index" ]; do sleep 1; done
    exec 4< <(exec varnishncsa -n "$work/front" -t off -q "$asked" -F '%{VCL_Log:upstream}x %{VCL_Log:path}x')
}

next=0
read_log
while true; do
    if IFS= read -r -t 1 line <&4; then
        note "$line"
    elif [ $? -le 128 ]; then
        # A container that ends would take the whole pod out of the Service, with all of its hits.
        sleep 1
        read_log
    fi
    report
done
