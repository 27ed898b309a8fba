# full-disk.sh - no space, or a limit on a file's size: the command says so, and what was committed stays.
. "$HERE/checks.inc"

head -c 400000 /dev/urandom >noise
# fill DIR: commits until one fails; then that failed cleanly, and all before it are there.
fill() {
    store=$1
    exits 'a store' 0 varve init "$store"
    made=0
    code=0
    while [ $made -lt 40 ]; do
        code=0
        $2 varve -q --store "$store" image "i$made" 4M noise >out 2>err || code=$?
        [ $code = 0 ] || break
        made=$((made + 1))
    done
    is "$3: a commit fails" 1 echo $code
    is "$3: in one line" 1 sh -c 'wc -l <err | tr -d " "'
    says "$3: that says why" "$4" cat err
    is "$3: those before it stay" $made sh -c "varve --store '$store' log | wc -l | tr -d ' '"
    is "$3: fsck" 'no damage' sh -c "varve --store '$store' fsck | tail -n 1"
    [ $made = 0 ] || is "$3: and are read" 0 sh -c "varve --store '$store' peek i$((made - 1)) 0 400000 --raw | cmp - noise; echo \$?"
}

# Shells count -f in blocks of 512 bytes or of 1024: either is less than 40 images.
cat >limited <<'WORDS'
#!/bin/sh
ulimit -f 4000
exec "$@"
WORDS
chmod +x limited
fill limit ./limited 'a limited file' 'FULL|large|limit|space'
exits 'without the limit it goes on' 0 varve --store limit meta k v

mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=8m varve-test small 2>/dev/null; then
    trap 'umount small 2>/dev/null || umount -l small' EXIT
    head -c 131072 /dev/zero >small/room # what is taken away later
    fill small/s '' 'a full disk' 'space'
    dd if=/dev/zero of=small/rest bs=4096 2>/dev/null || true
    exits 'not a byte left: reading works' 0 varve --store small/s log
    exits 'and fsck' 0 varve --store small/s fsck
    exits 'no new store' 1 varve init small/t
    rm small/rest small/room
    exits 'after room was made it goes on' 0 varve --store small/s meta k2 v2
    is 'as before' 'no damage' sh -c 'varve --store small/s fsck | tail -n 1'
    umount small
    trap - EXIT
else
    echo 'no tmpfs can be mounted here: a full disk is not tested, a file size limit was'
fi
finish
