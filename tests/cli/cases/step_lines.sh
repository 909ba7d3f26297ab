# The step lines say what run.sqlite holds: the experts without work in that step.
small_run r 12 --line-every 1
sed -n 's/^step \([0-9]*\)\/.*  idle \([0-9]*\) of .*/\1 \2/p' "$err" "$out" >said
python3 - <<'PY' || fail "the step lines count other idle experts than run.sqlite"
import sqlite3, struct
held = {}
for step, counts in sqlite3.connect("r/run.sqlite").execute("SELECT step, counts FROM load"):
    counts = struct.unpack("<%dI" % (len(counts) // 4), counts)
    idle = sum(c < 0.01 * sum(counts) / len(counts) for c in counts)
    held[step] = held.get(step, 0) + idle
said = {int(a): int(b) for a, b in (line.split() for line in open("said"))}
assert len(said) == 12 and sum(held.values()) > 0, (said, held)
assert said == held, (said, held)
PY
