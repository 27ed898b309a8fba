/* revision.h - what "main~2" means (docs/cli.md): a parser that needs no store, and its resolution in one. */
#ifndef VV_REVISION_H
#define VV_REVISION_H

#include "store/store.h"

enum vv_base_kind { VV_BASE_HEAD, VV_BASE_NAME, VV_BASE_NUMBER, VV_BASE_ROOT };
enum vv_when_kind { VV_WHEN_NONE, VV_WHEN_MOVES, VV_WHEN_TIME, VV_WHEN_AGO };

/* BASE { "~" [N] | "^" } as parsed. A NAME may turn out a ref or the start of an id. */
struct vv_revision {
    enum vv_base_kind kind;
    char name[256];  /* as written, without what follows; "" for ROOT */
    uint8_t hex[32]; /* NAME that could be hex, ROOT: its digits, left-aligned */
    unsigned digits; /* 0: cannot be hex */
    uint64_t number; /* NUMBER */
    enum vv_when_kind when_kind;
    int64_t when;     /* moves, time in ns, or ns ago */
    uint64_t parents; /* sum of ~N and ^ */
};
/* VARVE_INVALID with words that point at the place. */
varve_status vv_revision_parse(const char *text, struct vv_revision *revision);
/* `head`: the branch that HEAD stands for. `now_ns`: for "-10m". NOT_FOUND, AMBIGUOUS, with near misses named. */
varve_status vv_revision_resolve(varve_store *store, const struct vv_revision *revision, const char *head,
                                 int64_t now_ns, varve_commit_id *id);
varve_status vv_revision_id(varve_store *store, const char *text,
                            varve_commit_id *id); /* both; NULL: HEAD of main */

/* The full name of the branch or tag (deleted ones too, for they have a past) that `text` names; NULL, HEAD: main. */
varve_status vv_revision_ref(varve_store *store, const char *text, char name[256]);

/* Ref names: git's check-ref-format, and none that reads as HEAD, rN or 64 hex digits. VARVE_INVALID. */
varve_status vv_ref_name_check(const char *name);
/* Module and image names: [A-Za-z_][A-Za-z0-9_.-]{0,126}, not 64 hex digits. VARVE_INVALID. */
varve_status vv_module_name_check(const char *name);

#endif
