/* SPDX-License-Identifier: Apache-2.0 */
/* Asks whether the terminal's type is known. Alone, because <term.h> takes many plain words. */
#include <ncurses.h>
#include <term.h>
#include <unistd.h>

#include "cli/top.h"

bool aq_top_terminal_known(void)
{
	int error;

	if (setupterm(NULL, STDOUT_FILENO, &error) != OK)
		return false;
	del_curterm(cur_term);
	return true;
}
