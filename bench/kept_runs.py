# SPDX-License-Identifier: Apache-2.0
"""For benchmarks that train models: runs and figures are kept, found again and gone on with, and are of the same options."""
import json
import os
import shlex
import statistics
import subprocess
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


def need(program):
    if not os.access(program, os.X_OK):
        sys.exit(f"error: there is no program {program}\nhint: scripts/build makes it")


def run(command):
    """What it printed; ends with a message where it failed."""
    print(shlex.join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"error: that ended with {done.returncode}")
    return done.stdout


def spread(values, sign=""):
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    return f"{statistics.mean(values):{sign}.4f} ± {deviation:.4f}"


class KeptRuns:
    """Runs in args.runs, made with args.sigmoe, args.threads and args.settings (--set) over `shape`."""

    def __init__(self, args, shape):
        self.args = args
        self.shape = shape
        self.facts_path = os.path.join(args.runs, "results.json")
        self.facts = {}
        if os.path.exists(self.facts_path):
            with open(self.facts_path, encoding="utf-8") as file:
                self.facts = json.load(file)

    def path(self, *names):
        return os.path.join(self.args.runs, *names)

    def sigmoe(self, *words):
        return run([self.args.sigmoe, *map(str, words)])

    def fact(self, name, find):
        """A figure that is kept: found once, whatever is interrupted later."""
        if name not in self.facts:
            self.facts[name] = find()
            with open(self.facts_path + ".part", "w", encoding="utf-8") as file:
                json.dump(self.facts, file, indent=1, sort_keys=True)
            os.replace(self.facts_path + ".part", self.facts_path)
        return self.facts[name]

    def train(self, name, seed, data, steps, settings):
        path = self.path(f"{name}-seed{seed}")
        if os.path.exists(os.path.join(path, "summary.json")):
            return path
        if os.path.exists(path):
            self.sigmoe("train", "--resume", path, "--quiet")
        else:
            self.sigmoe("train", "--preset", "nano", "--data", data, "--run", path, "--quiet", "--seed", seed,
                        "--steps", steps, "--threads", self.args.threads, "--set", *self.shape,
                        "train.sample_tokens=0", "train.eval_every=0", "train.checkpoint_every=100",
                        "train.keep_checkpoints=1", *self.args.settings, *settings)
        return path

    def write_results(self, text):
        with open(self.path("results.md"), "w", encoding="utf-8") as file:
            file.write(text)
        print(text, end="")
