# SPDX-License-Identifier: Apache-2.0
"""For benchmarks whose runs are kept and used again: those must be of the same options."""
import json
import os
import sys


def keep_options(args, free):
    """Ends with a message where args.runs was begun with other options; those named in `free` may differ."""
    own = {key: value for key, value in vars(args).items() if key not in free}
    path = os.path.join(args.runs, "options.json")
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(own, file, indent=1)
        return
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    for key, value in own.items():
        if before.get(key) != value:
            sys.exit(f"error: the runs in {args.runs} were made with {key} {before.get(key)}, not {value}\n"
                     "hint: name another folder with --runs, or leave the options as they were")
