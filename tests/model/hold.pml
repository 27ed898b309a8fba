/* hold.pml - retired, then dropped: whoever looked earlier still finds what was there.
 *
 * Piece k is what generation k and those before it read, and generations after k need no more. The writer retires it by
 * making a checkpoint of generation k + 1 durable, and drops it when nobody looks at a generation up to k: sessions of
 * its own process hold a generation, under a mutex; readers in other processes lock the byte of theirs, shared, and
 * the writer tries an exclusive lock on all bytes below. `head` is where readers learn the generation; it is never
 * synced, so a writer that died may leave it behind the checkpoint. */
#ifndef LAST
#define LAST 2 /* generations 0 .. LAST */
#endif
#define READERS 2

byte generation, checkpoint, head, dropped;
bool gone[LAST + 1];  /* the pieces */
byte holds[LAST + 1]; /* in the writer's process */
byte locks[LAST + 1]; /* by other processes */
bool dead = false;    /* the writer died once */

/* How many look at a generation below `end`. */
inline holds_below(end, sum)
{
    sum = 0;
    i = 0;
    do
    :: i < end -> sum = sum + holds[i]; i++
    :: else -> break
    od;
    i = 0
}

inline locks_below(end, sum)
{
    sum = 0;
    i = 0;
    do
    :: i < end -> sum = sum + locks[i]; i++
    :: else -> break
    od;
    i = 0
}

active proctype session()
{
    byte looked, held;

    do
    :: 
#ifdef HOLD_AFTER_LOOKUP
        looked = generation;
        atomic { held = generation; holds[held]++ }
#else
        atomic { held = generation; holds[held]++ }
        looked = held;
#endif
        assert(!gone[looked]);
        assert(!gone[looked]);
        atomic { holds[held]--; held = 0; looked = 0 }
    :: break
    od
}

/* Lock the byte of the generation that `head` tells, so that it is told still when the lock is held. */
inline take(mine)
{
    do
    ::  mine = head;
        locks[mine]++;
#ifdef NO_SECOND_LOOK
        break
#else
        if
        :: head == mine -> break
        :: else -> locks[mine]--
        fi
#endif
    od
}

active [READERS] proctype reader()
{
    byte mine, next;

    take(mine);
    do
    :: assert(!gone[mine])
    :: head != mine ->
#ifdef UNLOCK_FIRST
        locks[mine]--;
#endif
        take(next);
        assert(!gone[mine]); /* what is in memory of the old one is used until here */
#ifndef UNLOCK_FIRST
        locks[mine]--;
#endif
        mine = next;
        next = 0
    :: break
    od;
    locks[mine]--
}

active proctype writer()
{
    byte i, sum;

begin:
    atomic { /* open */
        generation = (checkpoint > head -> checkpoint : head)
    }
#ifndef HEAD_LEFT_BEHIND
    head = generation;
#endif
    do
    :: generation < LAST ->
        checkpoint = generation + 1;
        generation++;
#ifdef HEAD_LATE
    :: head != generation -> head = generation
#else
        head = generation
#endif
    :: dropped < generation ->
#ifndef DROP_AT_ONCE
        d_step { holds_below(dropped + 1, sum) }
        if
        :: sum == 0 ->
            d_step { locks_below(dropped + 1, sum) }
            if
            :: sum == 0 -> atomic { gone[dropped] = true; dropped++ }
            :: else -> skip
            fi
        :: else -> skip
        fi
#else
        atomic { gone[dropped] = true; dropped++ }
#endif
    /* Its own sessions die with it, so it dies only here where none holds; what matters is where it was. */
    :: !dead && generation < LAST ->
        checkpoint = generation + 1;
        atomic {
            d_step { holds_below(LAST + 1, sum) }
            if
            :: sum == 0 -> dead = true; goto begin
            :: else -> generation++
            fi
        }
        head = generation
    :: break
    od
}
