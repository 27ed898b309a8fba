/* image.pml - a pair of image files that take turns: a file is rewritten in place only when nobody maps it, else replaced.
 *
 * Trees are numbers; page p of tree t holds t. A stamp says which tree a file holds, or that it is being rewritten. Who
 * maps a file holds a shared lock on it for as long, whoever rewrites it an exclusive one. A file that is busy is
 * replaced: another is written in full, synced, and renamed over it; who maps the old one keeps it. The snapshotter may
 * be killed anywhere (its lock goes, what it wrote stays) and begins anew; once, the power may go: then each write that
 * was not synced since is there or not. */
#ifndef TREES
#define TREES 3  /* tree 1 is there in both files at first */
#endif
#ifndef MAPPERS
#define MAPPERS 1
#endif
#define INODES 4 /* two, and those that replace them */
#define REWRITING 0

byte name[2], name_disk[2]; /* which inode; what the disk knows */
byte stamp[INODES], stamp_disk[INODES];
byte pages[2 * INODES], pages_disk[2 * INODES]; /* two pages each */
byte shared[INODES];
bool exclusive[INODES];
byte next_inode = 2;
bool crashed = false, kill = false, killed = false, ready = false;

init
{
    d_step {
        name[1] = 1;
        name_disk[1] = 1;
        stamp[0] = 1; stamp[1] = 1; stamp_disk[0] = 1; stamp_disk[1] = 1;
        pages[0] = 1; pages[1] = 1; pages[2] = 1; pages[3] = 1;
        pages_disk[0] = 1; pages_disk[1] = 1; pages_disk[2] = 1; pages_disk[3] = 1;
        ready = true
    }
}

active [MAPPERS] proctype mapper() provided (ready && !crashed)
{
    byte inode, tree, file;

    do
    ::  if
        :: file = 0
        :: file = 1
        fi;
        inode = name[file];
#ifdef STAMP_BEFORE_LOCK
        tree = stamp[inode];
        atomic {
            if
            :: !exclusive[inode] -> shared[inode]++
            :: else -> tree = 0; inode = 0; file = 0; goto next
            fi
        }
#else
        atomic {
            if
            :: !exclusive[inode] -> shared[inode]++
            :: else -> inode = 0; file = 0; goto next
            fi
        }
        tree = stamp[inode];
#endif
        if
        :: tree != REWRITING ->
            assert(pages[2 * inode] == tree);
            assert(pages[2 * inode + 1] == tree);
            assert(pages[2 * inode] == tree)
#ifdef SPARE_TRUSTED
        :: tree == REWRITING -> /* "it holds what it held" */
            assert(pages[2 * inode] == pages[2 * inode + 1])
#else
        :: else -> skip
#endif
        fi;
        atomic { shared[inode]--; inode = 0; tree = 0; file = 0 }
next:   skip
    :: break
    od
}

active proctype snapshotter() provided (ready && !crashed)
{
    byte file, inode, tree = 2;

    do
    :: tree <= TREES && next_inode < INODES ->
        file = tree % 2;
        inode = name[file];
        {
            atomic {
                if
#ifdef NO_EXCLUSIVE
                :: true -> skip
#else
                :: shared[inode] == 0 -> exclusive[inode] = true
                :: shared[inode] > 0 -> goto replace
#endif
                fi
            }
            stamp[inode] = REWRITING;
#ifndef STAMP_NOT_SYNCED
            stamp_disk[inode] = REWRITING;
#endif
            pages[2 * inode] = tree;
            pages[2 * inode + 1] = tree;
#ifndef PAGES_NOT_SYNCED
            d_step { pages_disk[2 * inode] = tree; pages_disk[2 * inode + 1] = tree }
#endif
            stamp[inode] = tree;
            stamp_disk[inode] = tree; /* and all else that was written */
            d_step { pages_disk[2 * inode] = pages[2 * inode]; pages_disk[2 * inode + 1] = pages[2 * inode + 1] }
            exclusive[inode] = false;
            goto done;
replace:
            atomic { inode = next_inode; next_inode++ }
            pages[2 * inode] = tree;
            pages[2 * inode + 1] = tree;
            stamp[inode] = tree;
#ifndef RENAMED_BEFORE_SYNC
            d_step { pages_disk[2 * inode] = tree; pages_disk[2 * inode + 1] = tree; stamp_disk[inode] = tree }
#endif
            name[file] = inode;
            name_disk[file] = inode;
done:       tree++
        } unless {
            kill && !killed -> killed = true; exclusive[0] = false; exclusive[1] = false; exclusive[2] = false;
            exclusive[3] = false
        }
    :: else -> break
    od
}

active proctype fate() provided (ready)
{
    byte i, inode;

    if
    :: kill = true
    :: skip
    fi;
    if
    :: skip
    :: atomic { /* the power goes: what was not synced is there or not, write by write */
        crashed = true;
        do
        :: i < 2 ->
            if
            :: inode = name[i]
            :: inode = name_disk[i]
            fi;
            if
            :: stamp_disk[inode] = stamp[inode]
            :: skip
            fi;
            if
            :: pages_disk[2 * inode] = pages[2 * inode]
            :: skip
            fi;
            if
            :: pages_disk[2 * inode + 1] = pages[2 * inode + 1]
            :: skip
            fi;
            assert(stamp_disk[inode] == REWRITING || (pages_disk[2 * inode] == stamp_disk[inode] &&
                                                      pages_disk[2 * inode + 1] == stamp_disk[inode]));
            i++
        :: else -> break
        od
       }
    fi
}
