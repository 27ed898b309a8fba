/* ledger.h - the file .varve/history: what was committed, moved and removed, in order; the truth about which commits
 * there are. An append is one record, written and synced: that is the one instant of a commit.
 *
 *   header    a random number that names this life of the file, and how long it was when it was published
 *   records   of plain.h: first those that it was published with, one behind the other; then one group for each append,
 *             at a multiple of VV_LEDGER_ALIGN, with zeros behind it
 *   .varve/history.end   how far the file was acknowledged at a clean close
 * Laws: (T1) A group is whole or it is nothing: its sum covers all of it, and it is synced before it is believed.
 *       (T2) What follows the last sound record is an append that ended unfinished: debris, cut off, and the cut is
 *            synced, before anything is appended. A bad record that a sound one follows, and a file that ends
 *            before what was published or acknowledged, is damage.
 *       (T5) No sector that holds acknowledged bytes is written again. */
#ifndef VV_TREE_LEDGER_H
#define VV_TREE_LEDGER_H

#include "store/plain/plain.h"

/* The page cache writes whole pages, and drives may have sectors as large. */
enum { VV_LEDGER_GROUP = VV_PLAIN_OWN, VV_LEDGER_LIFE = 16, VV_LEDGER_ALIGN = 4096 };

struct vv_ledger {
    struct vv_file file;
    uint8_t life[VV_LEDGER_LIFE];
    uint64_t end, sequence;     /* where the next record goes, and which it is */
    uint64_t acknowledged;      /* by `history.end`, when it was read or written last */
    uint64_t packed;            /* bytes of header and records when the file was published */
    bool damaged;               /* reading it came upon damage */
};

/* What reading came upon. `at`: offset in the file. */
struct vv_ledger_reading {
    varve_status (*record)(void *context, uint32_t kind, struct vv_reader payload); /* each one of a group, too */
    void (*damage)(void *context, uint64_t at, const char *words);
    void (*debris)(void *context, uint64_t at);
    void *context;
};

varve_status vv_ledger_create(const struct vv_dir *own);
/* Read all of it. `write`: debris is cut off, and what a killed process may have left unsynced is synced first. A file
 * that is missing, or no history, is damage, and then `ledger->file` is not open. */
varve_status vv_ledger_open(const struct vv_dir *own, bool write, const struct vv_ledger_reading *reading,
                            struct vv_ledger *ledger);
/* Say how far it was acknowledged. */
varve_status vv_ledger_acknowledge(const struct vv_dir *own, struct vv_ledger *ledger);
void vv_ledger_close(struct vv_ledger *ledger);

/* Put a record into a group. */
void vv_ledger_put(struct vv_bytes *group, uint32_t kind, const struct vv_bytes *payload);
/* Durable when it returns OK. On failure it is not there; UNCERTAIN: nobody knows. */
varve_status vv_ledger_append(struct vv_ledger *ledger, const struct vv_bytes *group);
/* Publish all of `plain` as a new file. On failure the old one goes on (UNCERTAIN: one of the two). */
varve_status vv_ledger_rewrite(const struct vv_dir *own, const struct vv_plain *plain, struct vv_ledger *ledger);

/* What the bytes of a history say, whose header was decoded (`packed`): sets `end` (where the next record goes), `sequence`
 * and `damaged`. */
varve_status vv_ledger_read(const uint8_t *bytes, size_t size, uint64_t acknowledged,
                            const struct vv_ledger_reading *reading, struct vv_ledger *ledger);

#endif
