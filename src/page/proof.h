/* proof.h - proofs that a state holds a page, or has no such module: made from its trees, checked by the root alone.
 *
 * A page proof binds (id, code, owner, memory size, page index, page bytes, hashes of instance state and
 * descriptor) by way of the memory root, the module's leaf and the state trie to the root. Format:
 * docs/format.md, proofs; tools/verify is a second checker, written from that page alone. */
#ifndef VV_PROOF_H
#define VV_PROOF_H

#include "page/pagetree.h"
#include "page/root.h"
#include "page/trie.h"

/* Tell what the leaf of module `id` binds, and lend its tree. Asked for the proved module, or for the one whose
 * leaf stands in its place. */
typedef varve_status (*vv_proof_facts_fn)(void *context, const uint8_t id[32], struct vv_module_facts *facts,
                                          struct vv_pagetree **memory);

/* Append the proof of page `page` of module `id`, whose `bytes` the caller has; or of the module's absence from
 * the state of this trie and meta hash (then `page` and `bytes` are not used). VARVE_MISUSE when the page is
 * beyond the memory's end; VARVE_CORRUPT when the bytes are not what the tree says. */
varve_status vv_proof_encode(struct vv_trie *trie, const uint8_t meta[VV_HASH_SIZE], const uint8_t id[32],
                             uint64_t page, const uint8_t *bytes, vv_proof_facts_fn facts, void *context,
                             struct vv_bytes *proof);

/* Believes nothing but the root. On VARVE_OK all of `claim` but its `size` is written, and true of every state
 * with this root; what it is about (module, page) is the proof's choice: compare it with what was asked. A proof
 * of absence holds for every id on its way, so its id may be changed to another that is absent too; nothing else
 * in a proof can change and still lead to the root. VARVE_INVALID: it proves nothing; VARVE_NEWER: made by a newer
 * format. */
varve_status vv_proof_check(const void *proof, size_t size, const uint8_t root[VV_HASH_SIZE],
                            varve_claim *claim);

#endif
