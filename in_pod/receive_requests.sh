#!/bin/sh
# Takes one report of what was asked for at the front: receive_requests.sh STORE, with the connection as input and output.
#
# A line is "UPSTREAM PATH", and "end" is the last one. A link's time says when its image was last asked for (keep_store.awk), a
# blob's that it is in use. A blob without content that was asked for goes at once: the next request fetches it.
set -u

store=$1
patience=10
most_lines=10000

# The files that stand for what was asked for. Names that Distribution would refuse are no files of its own.
files() {
    # shellcheck disable=SC2016 # awk's own variables
    timeout "$patience" awk -v store="$store" -v most="$most_lines" '
        $1 == "end" || NR > most { exit }
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
touch_file() {
    if [ -s "$1" ]; then
        touch -c "$1"
        return
    fi
    case $1 in
    */e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/data) ;;
    */data) [ -e "$1" ] && rm -rf "${1%/data}" ;;
    esac
}

files | while IFS= read -r file; do touch_file "$file"; done
echo ok
