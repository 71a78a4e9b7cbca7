#!/bin/sh
# Takes one report of what was asked for: receive_requests.sh STORE, with the connection as input and output.
#
# A line is "UPSTREAM PATH", and "end" is the last one: without it there is no answer, and the report is told again. A link's time
# says when its image was last asked for (keep_store.awk), a blob's that it is in use. A blob without content that was asked for
# goes at once: the next request fetches it.
set -u

store=$1
# Reports are taken one at a time: who connects and says nothing, or a line without an end, must not hold up the others.
patience=${PATIENCE_SECONDS:-2}
most_lines=10000
most_memory_kib=65536

# shellcheck disable=SC3045 # busybox has it
ulimit -v "$most_memory_kib"

# The files that stand for what was asked for, and "end". Names that Distribution would refuse are no files of its own.
files() {
    # shellcheck disable=SC2016 # awk's own variables
    timeout "$patience" awk -v store="$store" -v most="$most_lines" '
        $1 == "end" { print; exit }
        NR > most { exit }
        NF != 2 || index($2, "..") || $1 !~ /^[a-z0-9][a-z0-9.:-]*$/ || $2 !~ /^\/v2\/[a-z0-9][a-z0-9._\/-]*\/(manifests|blobs)\/[A-Za-z0-9_][A-Za-z0-9_.:-]*$/ { next }
        {
            gsub(":", "-", $1)
            root = store ($1 == "docker.io" ? "" : "/" $1) "/docker/registry/v2"
            count = split($2, part, "/")
            wanted = part[count]
            kind = part[count - 1]
            name = substr($2, 5, length($2) - 4 - length(kind) - length(wanted) - 2)
            if (split(wanted, digest, ":") == 2) {
                wanted = digest[1] "/" digest[2]
                if (kind == "blobs")
                    print root "/blobs/" digest[1] "/" substr(digest[2], 1, 2) "/" digest[2] "/data"
                else
                    print root "/repositories/" name "/_manifests/revisions/" wanted "/link"
            } else if (kind == "manifests")
                print root "/repositories/" name "/_manifests/tags/" wanted "/current/link"
        }'
}

# Links without content are left: somebody may be writing them.
mend() {
    case $1 in
    */e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/data) ;;
    */data) [ -e "$1" ] && rm -rf "${1%/data}" ;;
    esac
}

listed=$(files)
case $listed in
end | *"
end") ;;
*) exit 1 ;;
esac
printf '%s' "${listed%end}" | while IFS= read -r file; do
    if [ -s "$file" ]; then echo "$file"; else mend "$file"; fi
done | xargs -r touch -c
echo ok
