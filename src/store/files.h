/* files.h - the files of a directory of the store, by name, with what each is for. */
#ifndef VV_FILES_H
#define VV_FILES_H

#include "store/layout.h"

enum { VV_FILES_WORDS = 160 };
/* What the file is for; `text` has room for words that are made; NULL: it is not told of. */
typedef const char *(*vv_files_what_fn)(void *context, const char *name, char text[VV_FILES_WORDS]);

/* Every name in `dir`, sorted; `prefix` ("", "image/") goes before it in what `each` is told. Directories and .varve
 * are left out; a symbolic link is a file of no bytes. */
varve_status vv_files_each(const struct vv_dir *dir, const char *prefix, vv_files_what_fn what, void *what_context,
                           vv_file_facts_fn each, void *context);

#endif
