// SPDX-License-Identifier: Apache-2.0
/* What the commands of the lab share: where experiments are, and the table while they run. */
#ifndef SGM_CLI_CLI_LAB_H
#define SGM_CLI_CLI_LAB_H

#include "cli.h"

/* The folder of the experiments that come with sigmoe, seen from the program: PREFIX/share/sigmoe/lab, or lab/ of the tree
 * it was built in. False: neither is there. */
bool cli_lab_folder(char *path, size_t room);
/* NAME.yaml of that folder, or a path as it is. CLI_DONE or an exit code (printed). */
int cli_lab_find(const char *said, char *path, size_t room);
/* Names of the experiments there, without .yaml, sorted; malloc'ed with its texts. */
char **cli_lab_names(size_t *count);
void cli_lab_names_free(char **names, size_t count);
/* What to say where there are none. */
extern const char cli_lab_nowhere[];
/* The text that comes with sigmoe; false: it is not there. */
bool cli_lab_data(char *path, size_t room);

typedef struct cli_lab_display cli_lab_display;
cli_lab_display *cli_lab_display_new(FILE *stream, bool plain);
void cli_lab_display_free(cli_lab_display *display);
void cli_lab_display_events(cli_lab_display *display, sgm_lab_events *events);
void cli_lab_display_close(cli_lab_display *display); /* take the live table away */

#endif
