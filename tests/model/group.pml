/* group.pml - commits of several threads share a write and a sync; none is seen or acknowledged before it is durable.
 *
 * Records are numbered in the order of the chain. Whoever finds no leader leads: it writes all that is queued, syncs
 * once, and reveals in order; the others wait. A sync covers what was written before it began; when it fails, what it
 * should have made durable is lost for good, though a second sync says otherwise. */
#ifndef COMMITTERS
#define COMMITTERS 3
#endif
#define REFS 2

byte queued, written, stable, revealed; /* ends: records 1 .. */
byte visible;                           /* in `head`: how far readers of other processes follow the chain */
bool leading = false, poisoned = false, lost = false;
byte ref_at[REFS], flight[REFS]; /* the record that a ref names; the queued one that will move it */
byte moves[COMMITTERS + 1], from[COMMITTERS + 1];

active [COMMITTERS] proctype committer()
{
    byte ref, base, mine, end, i;

    if
    :: ref = 0
    :: ref = 1
    fi;
    base = ref_at[ref]; /* the session begins */
    atomic { /* under the lock of the writer */
#ifndef REF_IN_FLIGHT
        (flight[ref] == 0 || poisoned);
#endif
        if
        :: poisoned || ref_at[ref] != base -> goto refused
        :: else -> skip
        fi;
        queued++;
        mine = queued;
        moves[mine] = ref;
        from[mine] = base;
        flight[ref] = mine
    }
    do
    :: atomic { revealed >= mine -> break }
    :: atomic { poisoned -> goto refused }
    :: atomic { !leading && !poisoned && revealed < mine -> leading = true; end = queued }
#ifdef VISIBLE_BEFORE_WRITE
        visible = end;
#endif
        written = end;
#ifndef VISIBLE_BEFORE_WRITE
        visible = end;
#endif
#ifdef REVEAL_BEFORE_SYNC
        revealed = end;
#endif
        if /* the sync */
        :: atomic { stable = (lost -> stable : end) }
        :: atomic {
            lost = true;
#ifndef SYNC_TRIED_AGAIN
            poisoned = true;
            leading = false;
            goto refused
#endif
           }
        fi;
#ifdef END_AFTER_SYNC
        end = queued;
#endif
        atomic { /* reveal, in order */
            i = revealed + 1;
            do
            :: i <= end ->
                assert(ref_at[moves[i]] == from[i]);
                ref_at[moves[i]] = i;
                if
                :: flight[moves[i]] == i -> flight[moves[i]] = 0
                :: else -> skip
                fi;
                i++
            :: else -> break
            od;
            i = 0;
            revealed = (end > revealed -> end : revealed);
            end = 0;
            leading = false
        }
    od;
    assert(mine <= stable); /* acknowledged */
refused:
    skip
}

/* Somebody who looks: what is seen in this process survives a power loss, what others follow was written. */
active proctype observer()
{
    do
    :: atomic { assert(revealed <= stable) }
    :: atomic { assert(visible <= written) }
    :: break
    od
}
