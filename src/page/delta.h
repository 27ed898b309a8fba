/* delta.h - the difference of two pages, and frames of up to 64 pages compressed together.
 *
 * A page is stored as zero, whole, or runs of changed bytes against a base page. A frame joins the payloads of
 * up to 64 pages in one zstd level-1 block with a slot table in front, so that one page can be decoded from
 * (frame, slot) alone. A decoder believes nothing: every length is checked before it is trusted, and what comes
 * out is bounded before it is written. Format: docs/format.md, frames. */
#ifndef VV_DELTA_H
#define VV_DELTA_H

#include "base/bytes.h"
#include "page/page.h"

enum { VV_FRAME_PAGES = 64, VV_DELTA_WHOLE_ABOVE = 1024 };

enum vv_page_form { VV_FORM_ZERO = 0, VV_FORM_WHOLE = 1, VV_FORM_RUNS = 2 };

/* Append the runs that turn `base` into `page`; returns how many bytes were appended, or 0 (and nothing
 * appended) when it would be more than `limit`, or when memory ran out (`out` remembers). Equal pages: the
 * empty run list, one byte. */
size_t vv_runs_encode(const uint8_t *base, const uint8_t *page, size_t limit, struct vv_bytes *out);
/* Apply runs to `page`, which holds the base. VARVE_CORRUPT leaves `page` in any state but never writes outside. */
varve_status vv_runs_apply(const uint8_t *runs, size_t size, uint8_t page[VV_PAGE_SIZE]);
/* Some of the 512 words of 8 bytes that a page has. */
struct vv_words {
    uint64_t bits[VV_PAGE_SIZE / 8 / 64];
};
/* Add the words that runs touch, which vv_runs_encode made. */
void vv_words_add(struct vv_words *words, const uint8_t *runs, size_t size);
/* Append runs that turn any page into `page` that differs from it in these words at most; answers as vv_runs_encode. */
size_t vv_words_encode(const struct vv_words *words, const uint8_t *page, size_t limit, struct vv_bytes *out);
/* How many bytes differ. */
size_t vv_page_distance(const uint8_t *base, const uint8_t *page);

/* One page to be put into a frame. */
struct vv_frame_page {
    const uint8_t *bytes;  /* 4096 */
    const uint8_t *base;   /* NULL: store whole */
    uint64_t base_locator; /* of `base`; must not be 0 when base is given */
    const uint8_t *runs;   /* what vv_runs_encode made of them, where that is known already; else NULL */
    size_t runs_size;
};
/* What a slot says without the payload. */
struct vv_frame_slot {
    enum vv_page_form form;
    uint64_t base_locator; /* RUNS only, never 0 there; else 0 */
};

/* Working memory of zstd, made when first needed and kept: 8 us less for each frame that is packed or unpacked.
 * One thread at a time. After frames that are hardly smaller compressed, some of those that follow are stored as they
 * are, untried: so one codec is for frames of one kind, such as a commit's. */
struct vv_codec {
    struct ZSTD_CCtx_s *packer;
    struct ZSTD_DCtx_s *unpacker;
    unsigned poor, pass; /* such frames in a row; frames to be passed by */
};
#define VV_CODEC_NONE ((struct vv_codec){ .packer = NULL })
void vv_codec_release(struct vv_codec *codec);

/* Append a frame of 1 to 64 pages (in slot order). Self-describing and checksummed as a whole; at most
 * vv_frame_bound(count) bytes. On failure `out` is as before. */
varve_status vv_frame_encode(const struct vv_frame_page *pages, size_t count, struct vv_bytes *out);
varve_status vv_frame_encode_with(struct vv_codec *codec, const struct vv_frame_page *pages, size_t count,
                                  struct vv_bytes *out);
size_t vv_frame_bound(size_t count);

/* How long the frame is that starts in these bytes (at least VV_FRAME_HEADER of them), so that it can be read:
 * never more than vv_frame_bound(64). The answer is checked for sense, not against the checksum. */
enum { VV_FRAME_HEADER = 32 };
varve_status vv_frame_size(const uint8_t *header, size_t size, size_t *frame_size);

/* A frame, checked and unpacked, held in memory for as many slots as are wanted. */
struct vv_frame {
    size_t count;
    struct vv_frame_slot slots[VV_FRAME_PAGES];
    uint32_t offsets[VV_FRAME_PAGES], sizes[VV_FRAME_PAGES]; /* into payload */
    uint8_t *payload;
    size_t payload_size;
};
#define VV_FRAME_NONE ((struct vv_frame){ .payload = NULL })

/* `bytes` is exactly one frame. On failure `frame` is empty and need not be released. */
varve_status vv_frame_open(const void *bytes, size_t size, struct vv_frame *frame);
varve_status vv_frame_open_with(struct vv_codec *codec, const void *bytes, size_t size,
                                struct vv_frame *frame);
/* The same without the payload: only `count` and `slots` are filled and vv_frame_page must not be called; for
 * whoever follows base locators. The checksum is verified all the same. */
varve_status vv_frame_slots(const void *bytes, size_t size, struct vv_frame *frame);
/* The slots of a frame that is stored as it is, from its first `size` bytes, and where its payload begins: so that pages
 * can be read without the others. Nothing is held against a checksum: whoever reads so knows the page's hash.
 * False: this one must be opened, which says what is wrong, if anything is. */
bool vv_frame_peek(const void *bytes, size_t size, struct vv_frame *frame, size_t *payload_at);
void vv_frame_release(struct vv_frame *frame);
/* `page` holds the base for RUNS (ignored else); becomes the page. VARVE_CORRUPT when there is no such slot. */
varve_status vv_frame_page(const struct vv_frame *frame, size_t slot, uint8_t page[VV_PAGE_SIZE]);

#endif
