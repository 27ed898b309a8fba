#!/usr/bin/env python3
"""power.py POWER [--deeds N] [--every N] [--seed N] [--only FS] - power losses on real file systems.

ext4, xfs and btrfs run in a kernel that is an ordinary process (user-mode-linux). First it runs a workload of the
library on a disk whose every block write is logged (dm-log-writes), with a mark in the log after each deed that was
promised. Then the log is replayed, and after every block write what is on the disk is mounted and judged (power.c,
blocklog.c, guest.sh). Each file system is tried once more with the library's syncs left out: that must be seen.

No root, no loop devices, no modules of this machine's kernel are needed. What is missing is said, and skipped.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

FILE_SYSTEMS = {
    # name: (MiB, the command that makes it)
    "ext4": (64, ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]),
    "xfs": (320, ["mkfs.xfs", "-q", "-f", "-K"]),
    "btrfs": (192, ["mkfs.btrfs", "-q", "-f", "-K"]),
}
LOG_MIB = 2048
HERE = os.path.dirname(os.path.abspath(__file__))
TOTAL = re.compile(r"(\d+) states, (\d+) not mounted, (\d+) violations")


def missing(programs):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [program for program in programs if not shutil.which(program, path=path)]
    return "no " + ", no ".join(absent) if absent else ""


def why_not():
    """The reason why this machine cannot do it, or "". """
    absent = missing(["linux.uml", "dmsetup", "insmod"])
    if absent:
        return absent + " (tools/setup.sh long)"
    modules = [name for name in os.listdir("/usr/lib/uml/modules")] if os.path.isdir("/usr/lib/uml/modules") else []
    if not modules:
        return "user-mode-linux has no modules in /usr/lib/uml/modules"
    if not os.access("/dev/shm", os.W_OK):
        return "/dev/shm is not writable"
    if os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize < 2 << 30:
        return "/dev/shm has less than 2 GiB left"
    return ""


def make_image(path, mib, make=None):
    with open(path, "wb") as image:
        image.truncate(mib << 20)
    if make:
        environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        subprocess.run(make + [path], check=True, env=environment, stdout=subprocess.DEVNULL)


def boot(work, do, disks, variables, limit):
    """Run guest.sh once in the guest kernel; what it said."""
    said = os.path.join(work, "said")
    open(said, "w").close()
    line = ["linux.uml", "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
            "init=" + os.path.join(HERE, "guest.sh"), "con=null", "con0=null", "quiet", "DO=" + do, "WORK=" + work]
    line += ["ubd%d=%s" % pair for pair in enumerate(disks)]
    line += ["%s=%s" % pair for pair in variables.items()]
    environment = dict(os.environ, TMPDIR="/dev/shm", HOME=work)
    with open(os.path.join(work, "console"), "w") as console:
        try:
            subprocess.run(line, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            pass
    with open(said, errors="replace") as file:
        return file.read()


def attempt(file_system, options, plant):
    """(states, violations, what was said); None for numbers that never came."""
    mib, make = FILE_SYSTEMS[file_system]
    with tempfile.TemporaryDirectory(prefix="varve-power-", dir="/dev/shm") as work:
        base, disk, log = (os.path.join(work, name) for name in ("base", "disk", "log"))
        make_image(base, mib, make)
        subprocess.run(["cp", "--sparse=always", base, disk], check=True)
        make_image(log, LOG_MIB)
        variables = {"FS": file_system, "POWER": options.power, "SEED": options.seed,
                     "DEEDS": options.deeds, "EVERY": options.every if not plant else options.every * 3}
        if plant:
            variables["PLANT"] = plant
        said = boot(work, "record", (disk, log), variables, 600)
        if "record: done" not in said:
            return None, None, said
        os.unlink(disk)
        said += boot(work, "replay", (log, base), variables, 3600)
    found = TOTAL.search(said)
    return (int(found[1]), int(found[3]), said) if found else (None, None, said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("power", type=os.path.abspath)
    parser.add_argument("--deeds", type=int, default=60)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=FILE_SYSTEMS)
    parser.add_argument("--sound-only", action="store_true")
    options = parser.parse_args()
    passed = failed = skipped = 0
    reason = why_not()
    for file_system, (_, make) in FILE_SYSTEMS.items():
        if options.only not in (None, file_system):
            continue
        absent = reason or missing(make[:1])
        if absent:
            print("SKIPPED: %s: %s" % (file_system, absent))
            skipped += 2
            continue
        for plant in ("",) if options.sound_only else ("", "--no-sync"):
            began = time.monotonic()
            states, violations, said = attempt(file_system, options, plant)
            good = states and (violations > 0 if plant else violations == 0)
            print("%s, %s: %s states judged, %s violations, %.0f s" % (
                file_system, "no syncs" if plant else "sound", states, violations, time.monotonic() - began))
            if not good or not plant:
                print("    " + said.strip().replace("\n", "\n    "))
            sys.stdout.flush()
            passed, failed = passed + bool(good), failed + (not good)
    print("%d passed, %d failed" % (passed, failed) + (", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 77 if skipped and not passed else 0


sys.exit(main())
