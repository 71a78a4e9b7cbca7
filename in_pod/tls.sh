#!/bin/sh
# Process 1 of the container that ends TLS: tls.sh CONFIGURATION CERTIFICATES
#
# It runs HAProxy and looks at tls.crt and tls.key in the folder CERTIFICATES, which the kubelet keeps as the Secret is. A renewed
# pair is taken up by a reload: new connections get the new certificate, pulls in flight end on the old process. A pair that can't
# be used is left aside, and the one before stays; it is tried again every minute, since the reason may be none of its own.
set -u

configuration=$1
certificates=$2
look_seconds=10
retry_looks=6

say() {
    echo "tls.sh: $*"
}

fingerprint() {
    cat "$certificates/tls.crt" "$certificates/tls.key" 2>/dev/null | cksum
}

pause() {
    sleep "$look_seconds" &
    wait $!
}

# What is tried again says its reason no more.
take_up() {
    if reason=$(haproxy -c -f "$configuration" 2>&1); then
        say "the certificate is another: new connections get it"
        kill -USR2 "$haproxy"
        looks_left=0
    else
        [ "$looks_left" = 0 ] && say "the certificate is another, and can't be used: the one before stays: $reason"
        looks_left=$retry_looks
    fi
}

# No new connections; those in flight go on until the pod's grace period is over.
leave() {
    kill -USR1 "$haproxy" 2>/dev/null
    wait "$haproxy"
    exit 0
}

live=$(fingerprint)
looks_left=0
haproxy -W -db -f "$configuration" &
haproxy=$!
trap leave TERM INT

while kill -0 "$haproxy" 2>/dev/null; do
    pause
    seen=$(fingerprint)
    if [ "$seen" != "$live" ]; then
        live=$seen
        looks_left=0
        take_up
    elif [ "$looks_left" -gt 1 ]; then
        looks_left=$((looks_left - 1))
    elif [ "$looks_left" = 1 ]; then
        take_up
    fi
done
wait "$haproxy"
