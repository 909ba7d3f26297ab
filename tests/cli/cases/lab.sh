# A lab that is killed at any moment and run again gives the results of one that was not, times aside.
small_text
cat >tiny.yaml <<'EOF'
name: tiny
claim: nothing at this size
preset: pico
steps: 24
tokens_per_step: 128
seeds: 2
set:
  train: {kernels: ref, threads: 1, checkpoint_every: 5, eval_every: 8, eval_tokens: 256, final_eval_tokens: 256}
arms:
  - name: none
    description: no balancing
    set: {balance: none}
  - name: even
    description: a loss
    set: {balance: [{kind: load_balance_loss, coefficient: 0.1}]}
EOF
LAB=(lab run tiny.yaml --data text)
expect 0 "${LAB[@]}" --out whole
says "held out"; says "report: whole/report.html"
[ "$(grep -c 'step 24/24' "$out")" -eq 4 ] || fail "not a line for every arm and seed at the end"
[ -s whole/results.md ] && [ -s whole/report.html ] || fail "an output is missing"
grep -qiE '<script|https?://|@import|url\(|src=|<link' whole/report.html && fail "the page fetches or runs something"
python3 -c 'import sys, xml.dom.minidom as m; [m.parse(f) for f in sys.argv[1:]]' \
    whole/pictures/{curves,balance,load,domains}.svg || fail "a picture is missing or no XML"
grep -qiE '<script|@import|url\(|href|<image' whole/pictures/*.svg && fail "a picture fetches or runs something"
grep -q '^## Mean ± standard deviation' whole/results.md || fail "two seeds have a spread"
grep -q "^An even router's MaxVio by chance: [0-9.]* a batch, [0-9.]* over the window" whole/results.md || fail "no floor"
grep -q 'sigmoe lab run tiny.yaml --seeds 2 --steps 24 --data text' whole/results.md || fail "the command is missing"
same_numbers() {
    python3 - "$1/results.json" "$2/results.json" <<'PY' || fail "$1 and $2 have other results"
import json, sys
def strip(v):
    if isinstance(v, dict): return {k: strip(x) for k, x in v.items() if "second" not in k}
    return [strip(x) for x in v] if isinstance(v, list) else v
a, b = (strip(json.load(open(f))) for f in sys.argv[1:])
assert len(a["arms"]) == 2 and all(len(x["runs"]) == 2 for x in a["arms"])
sys.exit(a != b)
PY
}
expect 0 "${LAB[@]}" --jobs 2 --out together
same_numbers whole together
for pause in 0.03 0.1 0.25; do
    "$SIGMOE" "${LAB[@]}" --out r >log 2>&1 &
    child=$!
    for i in $(seq 1 300); do [ -e r/lab.json ] && break; sleep 0.02; done
    sleep $pause
    kill -KILL $child 2>/dev/null || true
    wait $child 2>/dev/null || true
    expect 0 "${LAB[@]}" --out r
    same_numbers whole r
    rm -rf r
done
# Ctrl-C saves every arm.
"$SIGMOE" "${LAB[@]}" --out r --steps 2000 >log 2>&1 &
child=$!
for i in $(seq 1 500); do [ -e r/runs/even-seed-1/checkpoints/latest ] && break; sleep 0.02; done
kill -INT $child
code=0; wait $child || code=$?
[ $code -eq 130 ] || fail "Ctrl-C: exit $code: $(cat log)"
grep -q 'hint: the same command goes on' log || fail "it does not say how to go on"
# An arm is an ordinary run.
expect 0 inspect r/runs/none-seed-1
rm -rf r
expect 0 "${LAB[@]}" --out r --seeds 1 --arms even --json
json arms.0.mean.bits_per_byte arms.0.runs.0.curve.0.tokens arms.0.runs.0.layers.1.max_violation_global command
expect 0 train --resume r/runs/even-seed-1 --steps 26
expect 2 lab report r; hints "even-seed-1 has train.steps = 26, the lab says 24"
rm -rf r
expect 0 "${LAB[@]}" --out r --seeds 1 --arms even --discard-checkpoints
expect 2 train --resume r/runs/even-seed-1; hints "its checkpoints were discarded"
[ -s r/runs/even-seed-1/summary.json ] || fail "the summary was removed"
# What is legal and hardly meant is said: more steps than text, less held-out text than asked for, arms that are one.
sed 's/eval_tokens: 256/eval_tokens: 100000/g' tiny.yaml >twins.yaml
printf '  - name: again\n    inherits: even\n' >>twins.yaml
cat text/plain/* | head -c 2000 >few.txt
expect 0 lab run twins.yaml --data few.txt --out twins --seeds 1
says "arm again sets what even does"; says "one seed has no spread"
says "a run of 3072 tokens goes "; says " times through the text, which has "
says " held-out tokens; 100000 were asked for, as many of each domain"
# Of a domain with little text nothing more can be had, however much the other has.
mkdir -p uneven/much uneven/little; cat text/plain/* >uneven/much/a.txt; head -c 1500 few.txt >uneven/little/b.txt
sed 's/eval_tokens: 256/eval_tokens: 3000/g' tiny.yaml >uneven.yaml
expect 0 lab run uneven.yaml --data uneven --out u --seeds 1 --arms even
says "held-out tokens; 3000 were asked for"; says "every arm balances"
# A run whose arm is no longer in the file is named.
cp -r u/runs/even-seed-1 u/runs/gone-seed-1
expect 0 lab run uneven.yaml --data uneven --out u; says "u/runs/gone-seed-1 is of no arm of the experiment"
# Asked for wrongly.
expect 2 lab run nowhere; hints "lab list"
expect 2 lab run sigam; hints "did you mean sigma?"
expect 2 lab run tiny; hints "with its ending: tiny.yaml"
expect 3 lab run nowhere.yaml
expect 2 "${LAB[@]}" --out whole --steps 25; hints "begun with other --steps"
expect 2 "${LAB[@]}" --out x --steps 25 --minutes 1; [ ! -e x ] || fail "it left x"
expect 2 "${LAB[@]}" --out x --minutes 0.01 --seeds 1000; hints "give more minutes"; [ ! -e x ] || fail "it left x"
for arms in "" ","; do
    expect 2 "${LAB[@]}" --out x --arms "$arms"; hints "--arms names no arm"; hints "is the variable set"; [ ! -e x ] || fail "it left x"
done
expect 2 "${LAB[@]}" --out x --set train.steps=9; hints "--steps"
expect 2 "${LAB[@]}" --out x --arms none,evne; hints "did you mean even?"
expect 2 lab show tiny.yaml --set model.layerz=3; hints "model.layers"
expect 3 lab report text
expect 2 "${LAB[@]}" --out text; hints "is no lab and holds other things"; [ ! -e text/runs ] || fail "it wrote into text"
expect 2 "${LAB[@]}" --out tiny.yaml; hints "hint: "
expect 0 lab report whole; same_numbers whole whole
expect 0 lab show tiny.yaml; says "balance.0.coefficient = 0.1"
# The base is the preset and what is set on it, not all that is no default.
says "base: preset pico, and"; says "data.tokens_per_step = 128"
! grep -q 'model.layers =' "$out" || fail "it shows what the preset says"
expect 0 lab show tiny.yaml --json; json base arms.0.set
[ "$(field preset)" = pico ] || fail "the preset is missing"
# Caches and placements are listed, and checked before anything is made.
{ cat tiny.yaml; echo 'caches: [lru 2, lfu_decay 3 period=64]'; echo 'placements: [eplb 8 gpus=2]'; } >served.yaml
expect 0 lab show served.yaml; says "caches: lru 2, lfu_decay 3 period=64"; says "placements: eplb 8 gpus=2"
expect 0 lab show served.yaml --json; [ "$(field placements)" = "eplb 8 gpus=2" ] || fail "placements"
{ cat tiny.yaml; echo 'caches: [lru]'; } >served.yaml
expect 2 lab show served.yaml; hints "write it like lru 16"
{ cat tiny.yaml; echo 'placements: [eplb 7 gpus=2]'; } >served.yaml
expect 2 lab run served.yaml --data text --out served; hints "slots"; [ ! -e served ] || fail "a refused lab left something"
# Arms of different depths: the floor is drawn as far as the deepest goes.
sed 's/^seeds: 2/seeds: 1/; s/{balance: none}/{balance: none, model.layers: 1}/; s/{balance: \[/{model.layers: 5, balance: [/' tiny.yaml >deep.yaml
expect 0 lab run deep.yaml --data text --steps 2 --out deep
python3 - <<'PY' || fail "the floor of arms with 1 and 5 layers"
import re
floor, = re.findall(r'<path class="line floor"[^>]* d="([^"]*)"', open("deep/pictures/balance.svg").read())
assert len(re.findall("[ML]", floor)) == 5, floor
PY
# A terminal does not obey what an experiment says of itself; the results have it as it is.
sed 's/^claim: .*/claim: "red \\e[31m and\\ntwo lines"/; s/^name: .*/name: "a\\e[32m"/; s/^  train: {/&sample_prompt: "\\e[33m", /' \
    tiny.yaml >loud.yaml
expect 0 lab show loud.yaml; says "red ?[31m and two lines"; says "a?[32m"; says "sample_prompt = ?[33m"
# Threads: the experiment's; 0 for a share of the cores, of as many arms as are at work.
threads_of() { sed -n 's/^ *threads: \([0-9]*\).*/\1/p' "$1/runs/none-seed-1/config.yaml"; }
cores=$("$SIGMOE" doctor --seconds 0 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["cores"])')
[ "$(threads_of whole)" = 1 ] || fail "the experiment asks for one thread, not $(threads_of whole)"
grep -q -- '--data text$' whole/results.md || fail "a command with threads, which do not matter here"
sed 's/kernels: ref, //' tiny.yaml >fast.yaml
expect 0 lab run fast.yaml --data text --seeds 1 --steps 2 --out fast
grep -q -- '--data text --threads 1$' fast/results.md || fail "the command forgets the threads"
python3 -c 'import json; assert [r["threads"] for a in json.load(open("fast/results.json"))["arms"] for r in a["runs"]] == [1, 1]' \
    || fail "threads of the runs"
for jobs in 1 2; do
    expect 0 "${LAB[@]}" --seeds 1 --steps 2 --out share$jobs --threads 0 --jobs $jobs
    want=$((cores / jobs > 1 ? cores / jobs : 1))
    [ "$(threads_of share$jobs)" = $want ] || fail "$jobs jobs: $(threads_of share$jobs) threads, wanted $want"
done
expect 0 lab list; says "sigma "
# A program that was copied alone says where it looked.
mkdir -p only/this/bin; cp "$SIGMOE" only/this/bin/sigmoe
only/this/bin/sigmoe lab list >"$out" 2>"$err" || fail "an empty list is no error"
says "PREFIX/share/sigmoe/lab"; says "sigmoe lab run FILE.yaml"
code=0; only/this/bin/sigmoe lab run sigma >"$out" 2>"$err" || code=$?
[ $code -eq 2 ] || fail "an experiment that is not there: $code"
hints "PREFIX/share/sigmoe/lab"
expect 0 lab list --json; json 0.name 0.claim 0.arms
for name in $("$SIGMOE" lab list --json | python3 -c 'import json,sys; print(*[x["name"] for x in json.load(sys.stdin)])'); do
    expect 0 lab show "$name" --json; json claim base arms.0.set
done
