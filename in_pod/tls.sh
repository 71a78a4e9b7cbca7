#!/bin/sh
# Process 1 of the container that ends TLS: tls.sh CONFIGURATION CERTIFICATES
#
# It runs HAProxy and looks at tls.crt and tls.key in the folder CERTIFICATES, which the kubelet keeps as the Secret is. A renewed
# pair is taken up by a reload: new connections get the new certificate, pulls in flight end on the old process. A pair that can't
# be used is left aside, and the one before stays.
set -u

configuration=$1
certificates=$2
look_seconds=10

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

take_up() {
    if reason=$(haproxy -c -f "$configuration" 2>&1); then
        say "the certificate is another: new connections get it"
        kill -USR2 "$haproxy"
    else
        say "the certificate is another, and can't be used: the one before stays: $reason"
    fi
}

# No new connections; those in flight go on until the pod's grace period is over.
leave() {
    kill -USR1 "$haproxy" 2>/dev/null
    wait "$haproxy"
    exit 0
}

live=$(fingerprint)
haproxy -W -db -f "$configuration" &
haproxy=$!
trap leave TERM INT

while kill -0 "$haproxy" 2>/dev/null; do
    pause
    seen=$(fingerprint)
    [ "$seen" = "$live" ] && continue
    live=$seen
    take_up
done
wait "$haproxy"
