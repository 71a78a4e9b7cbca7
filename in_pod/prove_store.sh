#!/bin/sh
# Process 1 of the pod that proves the store before the cache uses it: prove_store.sh STORE PATIENCE_SECONDS
#
# The cache's own registry, with its storage driver and its credentials, stores a blob, gives it back and deletes it (proof.yml; in
# a folder of the store that is the proof's own). What fails is tried again until PATIENCE_SECONDS are over: a role that was just
# assigned, or an account that was just made, needs minutes. STORE is how messages call it; the last one is what Pulumi shows.
set -u

store=$1
patience=$2
configuration=${CONFIGURATION:-/etc/docker-cache}
work=${WORK:-/tmp}
last_message=${TERMINATION_LOG:-/dev/termination-log}
port=5003
start_seconds=30
retry_seconds=10
blobs=/v2/docker-cache-proof/blobs
content=docker-cache
digest=sha256:768f95cebf3110e67397c563330c0e08ba0016203ba603af38d4d988364c5115

fail() {
    echo "$reason" | tee "$last_message"
    exit 1
}

await_registry() {
    waited=0
    until wget -q -O /dev/null "http://127.0.0.1:$port/"; do
        [ "$waited" -lt "$start_seconds" ] && kill -0 "$registry" 2>/dev/null || return 1
        sleep 1
        waited=$((waited + 1))
    done
}

# ask METHOD PATH [BODY]: wget knows neither PUT nor DELETE.
ask() {
    body=${3:-}
    rm -f "$work/request"
    mkfifo "$work/request"
    nc 127.0.0.1 "$port" <"$work/request" >"$work/answer" &
    # Open until the answer is there: the registry gives up a request whose sender has closed its side.
    exec 3>"$work/request"
    printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' "$1" "$2" "${#body}" "$body" >&3
    wait $!
    exec 3>&-
    answer=$(cat "$work/answer")
}

answered() {
    case $answer in "HTTP/1.1 $1 "*) return 0 ;; esac
    explain
    return 1
}

upload_path() {
    while IFS= read -r line; do
        case $line in Location:*)
            line=${line#*://*/}
            printf '/%s' "${line%?}"
            ;;
        esac
    done <"$work/answer"
}

# With a redirect the registry only signs an address; the nodes fetch from there.
was_given_back() {
    case $answer in "HTTP/1.1 307 "*) return 0 ;; esac
    answered 200 || return 1
    reason="$store gave back something else than was written: is it a blob service?"
    case $answer in *"$content") return 0 ;; esac
    return 1
}

prove() {
    ask POST "$blobs/uploads/" && answered 202 || return 1
    ask PUT "$(upload_path)&digest=$digest" "$content" && answered 201 || return 1
    ask GET "$blobs/$digest" && was_given_back || return 1
    ask DELETE "$blobs/$digest" && answered 202
}

# From the registry's words: {"errors":[{…,"detail":"azure: …\nERROR CODE: …\n…"}]}, in which line ends and quotes are escaped.
explain() {
    detail=${answer#*'"detail":"'}
    detail=${detail%'"}]}'*}
    case $answer in
    *'Identity not found'* | *"identity isn't assigned"*)
        reason="$store: the node's virtual machine does not have this identity; assign it to every node, or correct docker_cache_azure_identity_client_id"
        ;;
    *'Multiple user assigned identities'*)
        reason="$store: the node's virtual machine has several identities; name one by docker_cache_azure_identity_client_id"
        ;;
    *'failed to acquire a token'*)
        detail=${detail#*ManagedIdentityCredential}
        detail=${detail%%\\n*}
        detail=${detail#*: }
        reason="$store: there is no token for the identity (${detail##*'\": '}); the nodes have to be virtual machines in Azure that have the identity, and pods have to reach 169.254.169.254"
        ;;
    *'ERROR CODE: '*)
        code=${detail#*ERROR CODE: }
        code=${code%%\\n*}
        reason="$store refuses: $code; $(remedy "$code")"
        ;;
    *'dial tcp'* | *'tls: '* | *timeout* | *'deadline exceeded'*)
        reason="$store can't be reached: ${detail##*'\": '}; check docker_cache_azure_account_name (an account that does not exist has no address) and the cluster's way there"
        ;;
    *)
        reason="$store can't be used: ${detail%%\\n*}"
        ;;
    esac
}

remedy() {
    case $1 in
    AuthorizationPermissionMismatch)
        echo "give the identity the role Storage Blob Data Contributor on the account (a role that was just given needs up to ten minutes)"
        ;;
    AuthorizationFailure) echo "the account's firewall keeps the cluster out: let the nodes' network in" ;;
    AuthenticationFailed | InvalidAuthenticationInfo) echo "the account does not take this identity's tokens: are both of the same tenant and cloud?" ;;
    ContainerNotFound) echo "make the container, or set docker_cache_azure_container_name to one that is there" ;;
    ContainerBeingDeleted) echo "the container was deleted a moment ago: wait a minute, then make it" ;;
    ResourceNotFound) echo "there is no such account: check docker_cache_azure_account_name" ;;
    AccountIsDisabled) echo "the account is disabled: look at it in Azure" ;;
    *) echo "look the code up in Azure" ;;
    esac
}

registry serve "$configuration/proof.yml" >"$work/log" 2>&1 &
registry=$!
if ! await_registry; then
    reason="$store can't be proved, the registry does not start: $(tail -n 1 "$work/log")"
    fail
fi
deadline=$(($(date +%s) + patience))
until prove; do
    [ "$(date +%s)" -ge "$deadline" ] && fail
    echo "not yet: $reason"
    sleep "$retry_seconds"
done
echo "ready: $store; a blob was written, read and deleted"
