#!/bin/bash
# Table 1 of crates/templar-net/BENCH.md: one blob from one provider over loopback, by us and by others, in turns.
# usage: loopback.sh PROGRAM MIB ROUNDS [SENDME]
# PROGRAM is the example `swarm` of templar-net; SENDME a sendme 0.37.1, left out where there is none.
set -euo pipefail
program=$1 mib=$2 rounds=$3 sendme=${4:-}
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT
bytes=$((mib << 20))
cd "$dir"
mkfifo hold
"$program" seed seeder 127.0.0.1:0 1 $bytes < hold > seeded & exec 9> hold
until [ -s seeded ]; do sleep 0.2; done
id=$(sed 's/.*"id":"\([^"]*\)".*/\1/' seeded) peer=$(sed 's/.*"peer":"\([^"]*\)".*/\1/' seeded)
mkdir files
cp "seeder/data/$id.data" files/blob
# rsync serves as nobody where root starts it.
chmod a+rx . files && chmod a+r files/blob
(cd files && exec python3 -m http.server 8765 --bind 127.0.0.1) > http.log 2>&1 &
printf 'port = 8766\naddress = 127.0.0.1\nuse chroot = no\n[files]\npath = %s/files\n' "$dir" > rsyncd.conf
rsync --daemon --no-detach --config=rsyncd.conf > rsync.log 2>&1 &
if [ -n "$sendme" ]; then
    "$sendme" send --relay disabled --ticket-type addresses --magic-ipv4-addr 127.0.0.1:8767 files/blob > sendme.log 2>&1 &
    until grep -q 'blob[a-z2-7]\{40\}' sendme.log; do sleep 0.2; done
    ticket=$(grep -o 'blob[a-z2-7]\{40,\}' sendme.log | head -1)
fi
sleep 1
timed() { name=$1; shift; TIMEFORMAT="$name: %R s, receiver %U user + %S system"; time "$@" > /dev/null; }
for round in $(seq "$rounds"); do
    timed "templar" "$program" fetch "taken$round" 127.0.0.1:0 2 "$id" $bytes "$peer" < /dev/null
    timed "curl" curl -s -o curled http://127.0.0.1:8765/blob
    timed "rsync" rsync -W rsync://127.0.0.1:8766/files/blob synced
    [ -n "$sendme" ] && timed "sendme" "$sendme" receive --relay disabled "$ticket"
    rm -rf "taken$round" curled synced blob
done
exec 9>&-
