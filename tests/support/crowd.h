/* crowd.h - threads that commit at once, in one group: each on a branch, its state one number. */
#ifndef CROWD_H
#define CROWD_H

#include "model.h"

enum { CROWD_MAX = 8 };

/* One commit of a crowd. `number` is all its state, and its message. */
struct crowd_member {
    char branch[16];
    uint32_t number;
    uint32_t before;                      /* the number of the commit that it is on; 0: none */
    const struct vv_commit_facts *parent; /* NULL: none */
    varve_durability durability;
    unsigned big;                               /* so many pages go with it */
    void (*begin)(struct crowd_member *member); /* may be NULL; in the member's thread, as is `end` */
    void (*end)(struct crowd_member *member);
    void *context;
    /* What came of it. */
    varve_status status;
    char words[256];
    struct vv_commit_facts facts; /* the caller releases them */
};

/* The state that a member's commit has. */
void crowd_state(uint32_t number, unsigned big, struct model_state *state);
/* Let them all commit, as one group if they can be one. */
void crowd_commit(const struct vv_layout *layout, struct vv_place *place, struct crowd_member *members,
                  size_t count);

#endif
