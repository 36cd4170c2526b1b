/* An output file in the making. It is written under a name of its own beside its target and takes the
 * target's name when it is whole, so a reader, a crash or a full disk sees the old file or the new one and
 * never half of one.
 *
 * The draft's name, TARGET.<16 random digits>.part, is opened by O_EXCL and O_NOFOLLOW: nobody can plant it,
 * and programs on other machines that share the folder do not meet. It is on disk (fsync) before it is
 * renamed. A target that is a link of this user's is written where the link leads; any other link is itself
 * replaced. What is no regular file (a device, a FIFO, a descriptor below /proc) has nothing to lose and is
 * written directly. */
#ifndef ND_BASE_DRAFT_H
#define ND_BASE_DRAFT_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct nd_draft nd_draft;

/* Fails, with nothing changed, where the target cannot be written: nd_status_input, naming it. */
nd_status nd_draft_open(const char *path, nd_draft **out);
FILE *nd_draft_file(const nd_draft *draft);    /* to write to, until it is closed */
bool nd_draft_replaces(const nd_draft *draft); /* the target held something when the draft was opened */

/* Fails where what was written so far is not on disk. */
nd_status nd_draft_sync(nd_draft *draft);

/* Gives the target's name to what was written so far; what is written later is appended to the target. */
nd_status nd_draft_publish(nd_draft *draft);

/* From now on the draft outlives a failure: it holds what cannot be had again, and there is no target for it
 * yet. The handler of nd_draft_remove_all says where it is. */
void nd_draft_keep(nd_draft *draft);
const char *
nd_draft_path(const nd_draft *draft); /* where the bytes are now: the draft's name, or the target's */

/* Publishes, unless that was done before, and closes. Fails like nd_draft_publish; the draft is gone then, or
 * kept, and closed in any case. */
nd_status nd_draft_commit(nd_draft *draft);
void nd_draft_discard(
    nd_draft *draft); /* removes what was not published or kept, and closes; NULL is legal */

/* Whether the target could be written: opens a draft and discards it. */
nd_status nd_draft_try(const char *path);

/* Writes a file as a whole through `write`. */
typedef nd_status nd_file_writer(void *context, FILE *file);
nd_status nd_file_replace(const char *path, nd_file_writer *write, void *context);

/* For a signal handler that ends the program: removes every draft that is neither published nor kept, and
 * names on stderr those that are kept. Safe in a signal handler. */
void nd_draft_remove_all(void);

#endif
