#!/bin/bash
# sendme fetches a collection of ours, and we fetch one of sendme's. The bytes are equal, and the files that sendme fetched have
# the names that `b3sum` prints for them.
# usage: sendme.sh TEMPLAR SENDME [B3SUM]
# TEMPLAR is the program, SENDME is sendme 0.37.1 (`cargo install sendme --version 0.37.1`), and B3SUM is from `cargo install
# b3sum`.
set -euo pipefail
templar=$1 sendme=$2 b3sum=${3:-}
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cd "$dir"
until_there() { # FILE PATTERN: waits for a line, for a minute at most
    for _ in $(seq 600); do
        if grep -q "$2" "$1" 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "$1 never said $2:" >&2
    cat "$1" >&2
    return 1
}
ours() { home=$1; shift; "$templar" --home "$home" -q "$@"; }

# From us to sendme: two shards of the bundled dataset.
ours giver init > /dev/null
ours giver dataset import --bundled > /dev/null
ours giver run new interop --dataset shakespeare --size tiny > /dev/null
shards=$(ours giver --json dataset show shakespeare | grep -o '"blob":"[0-9a-f]*"' | cut -d'"' -f4 | sort -u)
[ "$(wc -w <<< "$shards")" -ge 2 ]
"$templar" --home giver -q share $shards > ticket 2> share.log &
until_there ticket blob
mkdir taken
(cd taken && "$sendme" receive --relay disabled "$(cat ../ticket)" > ../receive.log 2>&1) || { cat receive.log >&2; exit 1; }
for shard in $shards; do
    file=$(find taken -name "$shard")
    cmp "$file" "giver/store/data/$shard.data"
    if [ -n "$b3sum" ]; then [ "$("$b3sum" --no-names "$file")" = "$shard" ]; fi
    echo "sendme took $shard, $(stat -c %s "$file") bytes${b3sum:+, and b3sum prints that}"
done

# From sendme to us: a folder with subfolders, an empty file, and a file of many chunks.
mkdir -p sent/inner/most
head -c 5000000 /dev/urandom > sent/large
printf 'hello' > "sent/inner/with a space"
: > sent/inner/most/empty
"$sendme" send --relay disabled --ticket-type addresses --magic-ipv4-addr 127.0.0.1:8767 sent > send.log 2>&1 &
until_there send.log 'blob[a-z2-7]\{40,\}'
ours taker init > /dev/null
ours taker --json fetch "$(grep -o 'blob[a-z2-7]\{40,\}' send.log | head -1)" --out got > fetched
diff -r sent got/sent
echo "templar took $(find got -type f | wc -l) files of sendme's, $(du -sb got/sent | cut -f1) bytes with folders, all equal"
