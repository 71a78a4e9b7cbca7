# What goes from the stores: keep_store.awk -v now= -v in_use= -v ttl= -v most= -v sweep=
#
# Reads "BLOCKS TIME SIZE PATH" of every file below the stores' docker/registry/v2 (Distribution's layout), "end" after the last, and
# the manifests themselves. Prints "say TEXT" and "rm PATH", in the order in which they are to be done: names of images go before
# their blobs. A plan without "end" is none: what is missing in the list would look unneeded.
#
# The time of a link is when its image was last asked for: who reports a request touches it. An index and its manifests are one
# image, as old as the youngest of them. Images go while one is older than ttl seconds, or while the stores take more than `most`
# 512-byte blocks; 0 is no bound. Never one that was asked for in the last in_use seconds. A blob that no manifest needs takes its
# turn among them, and is not kept for more than a day: of an image that went, the front may have the manifest still, and people
# go on asking for its blobs. With sweep=0 no manifest is read, and only what is broken or was left behind goes.

BEGIN {
    layout = "/docker/registry/v2/"
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    settled = 60    # a file that is younger may be about to be written
    abandoned = 3600
    forgotten = 86400
}

$0 == "end" {
    whole = 1
    next
}

# Distribution's own names have no other characters.
$4 !~ /^[A-Za-z0-9._\/-]+$/ || NF != 4 { next }

{
    total += $1
    at = index($4, layout)
    if (!at)
        next
    store = substr($4, 1, at - 1)
    count = split(substr($4, at + length(layout)), part, "/")
    leaf = part[count]
    if (part[1] == "blobs" && leaf == "data" && count == 5)
        take_blob($1, $2, $3, $4)
    else if (part[1] == "repositories" && match($4, /\/_uploads\/[^\/]+\//))
        take_upload($1, $2, substr($4, 1, RSTART + RLENGTH - 2))
    else if (leaf ~ /\.tmp$/) {
        if (now - $2 > abandoned)
            remove_counted($4, $1)
    } else if (part[1] == "repositories" && leaf == "link")
        take_link($1, $2, $3, $4)
}

function take_blob(blocks, time, size, path,    digest) {
    digest = part[2] ":" part[4]
    # A crash leaves those: they would be served as they are.
    if (size == 0 && digest != empty) {
        if (now - time > settled) {
            print "say " substr(digest, 1, 19) "… is stored without its content: it is fetched anew when it is asked for"
            remove_counted(folder(path), blocks)
        }
        return
    }
    if (!sweep)
        return
    blob_blocks[store, digest] += blocks
    blob_time[store, digest] = time
    blob_path[store, digest] = path
}

function take_upload(blocks, time, path) {
    upload_time[path] = max(upload_time[path], time)
    upload_blocks[path] += blocks
}

function take_link(blocks, time, size, path,    name, i, digest, id) {
    if (size == 0) {
        if (now - time > settled)
            remove_counted(path, blocks)
        return
    }
    if (!sweep)
        return
    name = part[2]
    for (i = 3; i < count && part[i] !~ /^_/; i++)
        name = name "/" part[i]
    digest = part[count - 2] ":" part[count - 1]
    id = store SUBSEP name SUBSEP digest
    if (part[i] == "_layers") {
        layer_links[store, digest] = layer_links[store, digest] " " folder(path)
        layers[store, name] = layers[store, name] " " digest
        blob_blocks[store, digest] += blocks
    } else if (part[i + 1] == "revisions") {
        image_store[id] = store
        image_name[id] = name
        image_digest[id] = digest
        image_links[id] = image_links[id] " " folder(path)
        image_time[id] = max(image_time[id], time)
        image_blocks[id] += blocks
    } else if (part[i + 3] == "current") {
        tag_store[path] = store
        tag_name[path] = name
        tag_word[path] = part[i + 2]
        tag_time[path] = time
        tag_blocks[path] = blocks
    } else if (part[i + 3] == "index") {
        history[id] = history[id] " " folder(path)
        image_blocks[id] += blocks
    }
}

function max(a, b) { return a + 0 > b + 0 ? a : b }

function folder(path) {
    sub(/\/[^\/]*$/, "", path)
    return path
}

function remove(path) { print "rm " path }

function remove_counted(path, blocks) {
    total -= blocks
    remove(path)
}

function remove_all(paths,    path, i, n) {
    n = split(paths, path, " ")
    for (i = 1; i <= n; i++)
        remove(path[i])
}

# The digests in a file: a manifest names what it needs, a tag its manifest.
function digests_in(path,    line, status, found) {
    found = ""
    while ((status = (getline line < path)) > 0)
        while (match(line, /sha(256|512):[0-9a-f]+/)) {
            found = found " " substr(line, RSTART, RLENGTH)
            line = substr(line, RSTART + RLENGTH)
        }
    close(path)
    if (status < 0) {
        print "say " path " can't be read: nothing is removed"
        exit 1
    }
    return found
}

function read_tags(    path, id) {
    for (path in tag_store) {
        id = tag_store[path] SUBSEP tag_name[path] SUBSEP substr(digests_in(path), 2)
        if (!(id in image_digest))
            continue
        tags[id] = tags[id] (tags[id] == "" ? "" : ", ") tag_word[path]
        history[id] = history[id] " " folder(folder(path))
        image_time[id] = max(image_time[id], tag_time[path])
        image_blocks[id] += tag_blocks[path]
    }
}

function read_manifests(    id, blob, digest, i, n, child) {
    for (id in image_digest) {
        blob = image_store[id] SUBSEP image_digest[id]
        needs[id] = blob in blob_path ? digests_in(blob_path[blob]) : ""
        # Without its manifest nobody knows what an image needs: all that its repository has, then.
        if (needs[id] == "")
            needs[id] = layers[image_store[id], image_name[id]]
        needs[id] = needs[id] " " image_digest[id]
        n = split(needs[id], digest, " ")
        for (i = 1; i <= n; i++) {
            users[image_store[id], digest[i]]++
            child = image_store[id] SUBSEP image_name[id] SUBSEP digest[i]
            if (child != id && child in image_digest) {
                children[id] = children[id] "\n" child
                parents[child]++
            }
        }
    }
}

function youngest(id,    child, i, n, time) {
    if (id in known)
        return known[id]
    time = image_time[id]
    n = split(substr(children[id], 2), child, "\n")
    for (i = 1; i <= n; i++)
        time = max(time, youngest(child[i]))
    return known[id] = time
}

function sort(low, high,    i, j, middle, held) {
    if (low >= high)
        return
    middle = youngest(order[int((low + high) / 2)])
    i = low
    j = high
    while (i <= j) {
        while (youngest(order[i]) < middle)
            i++
        while (youngest(order[j]) > middle)
            j--
        if (i <= j) {
            held = order[i]
            order[i++] = order[j]
            order[j--] = held
        }
    }
    sort(low, j)
    sort(i, high)
}

# One that is in use goes in a later run; it counts as gone, or more images than needed would follow.
function release(blob) {
    total -= blob_blocks[blob]
    if (now - blob_time[blob] < in_use)
        return
    freed += blob_blocks[blob]
    gone[++blobs] = blob
}

function evict(id,    digest, child, i, n, blob) {
    remove_all(history[id] image_links[id])
    total -= image_blocks[id]
    freed += image_blocks[id]
    n = split(needs[id], digest, " ")
    for (i = 1; i <= n; i++) {
        blob = image_store[id] SUBSEP digest[i]
        if (--users[blob] == 0 && blob in blob_path)
            release(blob)
    }
    n = split(substr(children[id], 2), child, "\n")
    for (i = 1; i <= n; i++)
        if (--parents[child[i]] == 0)
            evict(child[i])
}

function called(id,    host, name) {
    host = image_store[id]
    name = image_name[id]
    if (host != top)
        name = substr(host, length(top) + 2) "/" name
    return name (id in tags ? ":" tags[id] : "@" substr(image_digest[id], 1, 19) "…")
}

function lasting(seconds) {
    if (seconds >= 172800)
        return int(seconds / 86400) " days"
    return seconds >= 7200 ? int(seconds / 3600) " hours" : int(seconds / 60) " minutes"
}

function mebibytes(blocks) { return int((blocks + 2047) / 2048) " MiB" }

function remove_abandoned(    path) {
    for (path in upload_time)
        if (now - upload_time[path] > abandoned)
            remove_counted(path, upload_blocks[path])
}

function keep_within_bounds(    blob, id, i, age, is_blob, images) {
    read_tags()
    read_manifests()
    for (blob in blob_path)
        if (!users[blob]) {
            known[blob] = blob_time[blob]
            order[++roots] = blob
        }
    for (id in image_digest)
        if (!parents[id])
            order[++roots] = id
    sort(1, roots)
    for (i = 1; i <= roots; i++) {
        age = now - youngest(order[i])
        if (age < in_use)
            break
        is_blob = order[i] in blob_path
        if (!((ttl && age > ttl) || (most && total > most) || (is_blob && age > forgotten)))
            continue
        if (is_blob)
            release(order[i])
        else {
            print "say " called(order[i]) " goes: nobody asked for it for " lasting(age)
            evict(order[i])
            images++
        }
    }
    for (i = 1; i <= blobs; i++) {
        remove_all(layer_links[gone[i]])
        remove(folder(blob_path[gone[i]]))
    }
    if (blobs || images)
        print "say " images + 0 " images and " blobs + 0 " blobs go, " mebibytes(freed)
    if (most && total > most)
        print "say the cache takes " mebibytes(total) " where docker_cache_fs_max_size allows " mebibytes(most) ": what is left was asked for in the last hour"
    if (asked)
        print "say the cache takes " mebibytes(total)
}

END {
    if (!whole)
        exit 1
    remove_abandoned()
    if (sweep)
        keep_within_bounds()
    print "end"
}
