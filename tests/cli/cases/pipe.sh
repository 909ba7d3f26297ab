# In a pipe: plain lines, no escape codes; --quiet, --json and --line-every do what they say.
small_run r 10 --line-every 5 --checkpoint-every 5
grep -q $'\033' "$out" && fail "escape codes in a pipe"
[ "$(grep -c '^step ' "$out")" -eq 3 ] || fail "lines: first, every fifth"
says "parameters"; says "load over the last 10 steps"; says "saved step 5"; says "bits per byte"
small_run q 4 --quiet
grep -q '^step ' "$out" && fail "--quiet prints steps"
small_run j 4 --json; json step; hints "step 4/4"
code=0; "$SIGMOE" list >/dev/full 2>"$err" || code=$?
[ $code -eq 1 ] || fail "a full standard output: exit $code"
