# keep.sh - what a store keeps: its settings, and commits that are deleted.
. "$HERE/checks.inc"

is 'made with settings' 'created a journal store in s' varve init s --retain 5 --durability buffered
cd s
is 'settings' 'retain 5 durability buffered snapshot_bytes 67108864 ' sh -c 'varve config | tr "\t\n" "  "'
is 'one' 5 varve config retain
exits 'set' 0 varve config retain all
is 'is set' all varve config retain
exits 'latest' 0 varve config retain latest
is 'is one' 1 varve config retain
exits 'bytes' 0 varve config snapshot_bytes 16M
is 'in bytes' 16777216 varve config snapshot_bytes
is 'as JSON' '{"key":"retain","value":"1"}' varve --json config retain
exits 'durable' 0 varve config durability durable
exits 'no such setting' 2 varve config colour
exits 'no such value' 2 varve config retain some
exits 'no such value' 2 varve config durability no
echo 'colour blue' >>.varve/config
says 'an unknown setting is named' 'colour' varve log
exits 'and refused' 5 varve log
sed -i '/colour/d' .varve/config
exits 'all' 0 varve config retain all

varve -q image i 64k
for i in 1 2 3 4; do varve -q poke i $i u8:$i; done
third=$(varve show r3 --json | jq -r .id)
exits 'a branch names it' 1 varve delete HEAD
says 'says which' 'main' varve delete HEAD
is 'as JSON' "$third" sh -c 'varve delete r3 --json | jq -r .deleted'
exits 'is gone' 1 varve show r3
exits 'by its id too' 1 varve show "$third"
exits 'once' 1 varve delete "$third"
is 'the line goes on' r2 sh -c 'varve log HEAD~1 -n 2 | tail -1 | cut -d" " -f1'
is 'stepped over' 4 sh -c 'varve log | wc -l | tr -d " "'
is 'all else reads' 1 varve peek i 1 --type u8 --at r2
is 'all else reads' 2 varve peek i 2 --type u8 --at r4
is 'no damage' 'no damage' varve fsck
varve -q branch side r2
exits 'restore' 0 varve restore r2
fifth=$(varve show r5 --json | jq -r .id)
exits 'the tip goes' 0 varve delete r5
is 'moves are told' 6 sh -c 'varve log --moves | wc -l | tr -d " "'
says 'with the id of what was deleted' "^-     $(printf '%.12s' "$fifth")" varve log --moves
exits 'a deleted one is no way back' 1 varve restore 'main@{1}'
exits 'but what was before it is' 0 varve restore r4

cd ..
varve init g >/dev/null
cd g
varve -q image big 8M
for i in 1 2 3 4 5 6; do
    head -c 2097152 /dev/urandom >../noise
    varve -q poke big 0 @../noise
done
before=$(varve stat --json | jq .journal_bytes)
for i in 2 3 4 5 6; do varve -q delete r$i; done
is 'stat knows' true sh -c 'varve stat --json | jq ".bytes_reclaimable > 9000000"'
says 'would free' 'would free about [0-9.]+ MiB' varve gc --dry-run
says 'frees' 'freed [0-9.]+ MiB' varve gc
is 'smaller by that' true sh -c "varve stat --json | jq '.journal_bytes < $before - 9000000'"
is 'the rest reads' "$(od -An -tx1 -N16 ../noise | tr -d ' ' | tr a-f A-F)" sh -c 'varve peek big 0 16 --raw | od -An -tx1 | tr -d " " | tr a-f A-F'
is 'no damage' 'no damage' varve fsck
rm head
is 'without head too' 2 sh -c 'varve log | wc -l | tr -d " "'
is 'again' true sh -c 'varve gc --json | jq ".bytes_freed < 20000"'
varve config retain 1
exits 'retention' 0 varve gc
is 'one is left' 1 sh -c 'varve log | wc -l | tr -d " "'
exits 'a dry run takes no snapshot' 2 varve gc --dry-run --snapshot
rm -rf image
exits 'a snapshot' 0 varve gc --snapshot
is 'of the image' 1 sh -c 'ls image | wc -l | tr -d " "'
exits 'a fork without a snapshot' 2 varve gc --fork
rm -rf image
exits 'a forked snapshot' 0 varve gc --snapshot --fork
is 'of the image, at the close' 1 sh -c 'ls image | wc -l | tr -d " "'
is 'no damage' 'no damage' varve fsck

# Every command a process of its own: what retention leaves is given back now and then, without gc.
cd ..
varve init n --retain 3 >/dev/null
cd n
varve -q image big 1M
most=0
for i in $(seq 60); do
    head -c 1048576 /dev/urandom >../noise
    varve -q poke big 0 @../noise
    now=$(du -ck log.* | tail -1 | cut -f1)
    [ "$now" -le "$most" ] || most=$now
done
is 'never grows beyond' true sh -c "[ $most -lt 24576 ] && echo true || echo $most KiB"
is 'few are left' true sh -c '[ $(varve log | wc -l) -lt 20 ] && echo true'
is 'the newest reads' yes sh -c 'varve peek big 0 1048576 --raw | cmp - ../noise && echo yes'
exits 'gc' 0 varve gc
is 'three are left' 3 sh -c 'varve log | wc -l | tr -d " "'
is 'no damage' 'no damage' varve fsck
finish
