#!/bin/sh
# guest.sh - what runs as init in the guest kernel of power.py; the machine's own files are its root, read-only. The
# kernel's command line gives the variables:
#
#   DO      record: run the workload on /dev/ubda, logged to /dev/ubdb; replay: judge /dev/ubdb by the log in /dev/ubda
#   WORK    a folder of the machine, writable: what is said goes to $WORK/said
#   FS, POWER, SEED, DEEDS, EVERY, PLANT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkdir -p /mnt/disk /mnt/shared /dev/mapper
mount -t hostfs none /mnt/shared -o "$WORK"
exec >>/mnt/shared/said 2>&1

drivers=$(echo /usr/lib/uml/modules/*/kernel/drivers)
for module in md/dm-mod md/dm-bufio md/dm-log-writes md/dm-snapshot; do
    [ ! -f "$drivers/$module.ko" ] || insmod "$drivers/$module.ko"
done
[ -e /dev/mapper/control ] || mknod /dev/mapper/control c 10 "$(awk '/device-mapper/{print $1}' /proc/misc)"

record() {
    dmsetup create --noudevsync lw --table "0 $(blockdev --getsz /dev/ubda) log-writes /dev/ubda /dev/ubdb"
    dmsetup mknodes
    mount -t "$FS" /dev/mapper/lw /mnt/disk
    mkdir -m 700 /mnt/disk/store
    sync -f /mnt/disk
    dmsetup message lw 0 mark start
    # shellcheck disable=SC2086 # no word when nothing is planted
    "$POWER" run /mnt/disk/store "$SEED" "$DEEDS" --mark 'dmsetup message lw 0 mark' ${PLANT:-}
    dmsetup message lw 0 mark end
    umount /mnt/disk
    dmsetup remove --noudevsync lw
}

replay() {
    insmod "$drivers/block/brd.ko" rd_nr=1 rd_size=131072
    "$POWER" replay /mnt/disk/store "$SEED" /dev/ubda /dev/ubdb /dev/ram0 "$FS" "$EVERY"
}

(
    set -e
    "$DO"
    echo "$DO: done"
)
sync
halt -f -p
