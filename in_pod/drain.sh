#!/bin/sh
# Before the front ends: drain.sh LEAVING_SECONDS DRAIN_SECONDS
#
# For LEAVING_SECONDS new pulls still come, until every node's kube-proxy knows; then those in flight get DRAIN_SECONDS to end.
# From the start every answer closes its connection, so that a client's next request opens one to another pod.
set -u

leaving_seconds=$1
drain_seconds=$2
work=${WORK:-/var/lib/varnish}

# Varnish has one of these for each request that it is working on, and none for a connection that is idle.
in_flight() {
    varnishstat -n "$work/front" -1 -f 'MEMPOOL.req*.live' | awk '{ sum += $2 } END { print sum + 0 }'
}

touch "$work/draining"
sleep "$leaving_seconds"
waited=0
while [ "$waited" -lt "$drain_seconds" ] && [ "$(in_flight)" -gt 0 ]; do
    sleep 1
    waited=$((waited + 1))
done
# What runs beside the front, and what its answers need, has waited for this.
touch "$work/drained"
