#!/bin/sh
# Process 1 of the front's container: front.sh HOT_FOLDER HOT_BYTES PORT PROXIED_PORT ENTRY_PORT
set -eu

hot_folder=$1
hot_bytes=$2
port=$3
proxied_port=$4
entry_port=$5
configuration=${CONFIGURATION:-/etc/docker-cache}
work=${WORK:-/var/lib/varnish}

# What the pod's own node sends to its NodePort comes from the node's address, or from that of its bridge, the pod's gateway: the
# VCL lets both in. The kernel writes an address as a hexadecimal number, on most machines backwards.
gateway() {
    awk '$2 == "00000000" { print $3; exit }' /proc/net/route | sed 's/\(..\)\(..\)\(..\)\(..\)/0x\4 0x\3 0x\2 0x\1/'
}
# shellcheck disable=SC2046,SC2183 # four numbers
GATEWAY_ADDRESS=$(printf '%d.%d.%d.%d' $(gateway))
export GATEWAY_ADDRESS

# The compiler's files: the container's own file system is read-only.
export TMPDIR="$work"
rm -f "$work/draining" "$work/drained"

# Tags and manifests have a store of their own, so that no layer drives them out; so has what is known of credentials.
# Room for a big layer is made of many small ones (nuke_limit). A client may take its time, but not stand still (send_timeout).
# Of what is not kept a slow client holds a megabyte (transit_buffer): there may be a thousand of them.
# A thousand nodes may come at once (threads).
exec varnishd -F -n "$work/front" -f "$configuration/front.vcl" -T none -S none \
    -a "http=:$port,HTTP" -a "entry=:$entry_port,HTTP" -a "proxied=127.0.0.1:$proxied_port,PROXY" \
    -s "small=malloc,256M" -s "asked=malloc,16M" -s "hot=file,$hot_folder/store,$hot_bytes" \
    -p nuke_limit=1000000 \
    -p send_timeout=86400 -p idle_send_timeout=300 \
    -p transit_buffer=256k \
    -p thread_pool_min=50 -p thread_pool_max=4000 -p thread_queue_limit=4000 \
    -p http_gzip_support=off \
    -p vsl_space=40M
