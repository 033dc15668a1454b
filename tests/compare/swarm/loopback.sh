#!/bin/bash
# Measures table 1 of crates/templar-net/BENCH.md: several programs take turns to fetch one blob over loopback.
# usage: loopback.sh SWARM MIB ROUNDS [TEMPLAR [SENDME]]
# SWARM is the example `swarm` of templar-net, TEMPLAR is the program, and SENDME is sendme 0.37.1. Programs that are not given are
# left out.
# `swarm` fetches into its store, as sendme does before it copies the blob. `templar fetch` also waits until the disk has it.
set -euo pipefail
program=$(realpath "$1") mib=$2 rounds=$3 templar=${4:+$(realpath "$4")} sendme=${5:+$(realpath "$5")}
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT
bytes=$((mib << 20))
cd "$dir"
mkfifo hold
"$program" seed seeder 127.0.0.1:0 1 $bytes < hold > seeded & seeder=$!
exec 9> hold
until [ -s seeded ]; do sleep 0.2; done
field() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/" seeded; }
id=$(field id) peer=$(field peer) own_ticket=$(field ticket)
mkdir files
cp "seeder/data/$id.data" files/blob
# If root starts rsync, it serves as the user nobody.
chmod a+rx . files && chmod a+r files/blob
(cd files && exec python3 -m http.server 8765 --bind 127.0.0.1) > http.log 2>&1 & http=$!
printf 'port = 8766\naddress = 127.0.0.1\nuse chroot = no\n[files]\npath = %s/files\n' "$dir" > rsyncd.conf
rsync --daemon --no-detach --config=rsyncd.conf > rsync.log 2>&1 & rsyncd=$!
if [ -n "$sendme" ]; then
    "$sendme" send --relay disabled --ticket-type addresses --magic-ipv4-addr 127.0.0.1:8767 files/blob > sendme.log 2>&1 & sender=$!
    until grep -q 'blob[a-z2-7]\{40\}' sendme.log; do sleep 0.2; done
    ticket=$(grep -o 'blob[a-z2-7]\{40,\}' sendme.log | head -1)
fi
sleep 1
spent() { awk '{ sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / 100 }' "/proc/$1/stat"; }
timed() { # NAME SENDER'S-PID COMMAND…
    local name=$1 pid=$2 before
    shift 2
    sync
    before=$(spent "$pid")
    TIMEFORMAT="$name: %R s, receiver %U user + %S system"
    time "$@" > /dev/null 2> errors || cat errors >&2
    echo "$name: sender $(awk "BEGIN { print $(spent "$pid") - $before }") user and system"
}
for round in $(seq "$rounds"); do
    timed "swarm" $seeder "$program" fetch "taken$round" 127.0.0.1:0 2 "$id" $bytes "$peer" < /dev/null
    timed "curl" $http curl -s -o curled http://127.0.0.1:8765/blob
    timed "rsync" $rsyncd rsync -W rsync://127.0.0.1:8766/files/blob synced
    if [ -n "$sendme" ]; then timed "sendme" $sender "$sendme" receive --relay disabled "$ticket"; fi
    if [ -n "$templar" ]; then
        "$templar" --home "home$round" -q init > /dev/null
        timed "templar fetch" $seeder "$templar" --home "home$round" -q fetch "$own_ticket"
    fi
    rm -rf "taken$round" curled synced blob "home$round"
done
exec 9>&-
