# Traces: written, read by stats, replay and place; what cannot be is refused before anything is run.
small_run r 6 --set train.trace_every=3 --json
[ "$(ls r/traces)" = "$(printf 'step-000003.trace\nstep-000006.trace')" ] || fail "the traces of a run: $(ls r/traces)"
expect 0 stats r/traces/step-000006.trace --json; json trace source step model_hash complete tokens domains.1.domain domains.1.layers.0.load
json layers.0.tokens layers.1.max_violation layers.0.dead_experts layers.0.entropy_over_log_e layers.0.domain_divergence_nats
[ "$(field source) $(field step) $(field complete)" = "train 6 True" ] || fail "what the trace says of itself"
expect 0 stats r/traces/step-000006.trace; says "domains differ"; says "domain "

# An evaluation: the same figures as without a trace.
expect 0 trace --model r --data r/data --limit 500 --kernels ref --threads 1 --out e.trace --json
json path source model_hash tokens layers experts domains.0 bytes bits_per_byte
[ "$(field tokens)" = 500 ] || fail "tokens: $(field tokens)"
expect 0 stats e.trace --json; one=$(field layers.1.load) entropy=$(field layers.1.entropy_over_log_e)
expect 0 stats --model r --data r/data --limit 500 --kernels ref --threads 1 --json
[ "$one $entropy" = "$(field layers.1.load) $(field layers.1.entropy_over_log_e)" ] || fail "stats of a trace and of the model differ"
# Devices that hold two experts each, by either way.
expect 0 stats e.trace --groups 4 --json; one=$(field layers.1.imbalance_score)
expect 0 stats --model r --data r/data --limit 500 --kernels ref --groups 4 --json
[ "$one" = "$(field layers.1.imbalance_score)" ] || fail "devices of a trace and of the model differ"
expect 0 stats e.trace --groups 4; says "between 4 devices of 2 experts each"; says "    1  $(printf %.3f "$one")"
expect 2 stats e.trace --groups 5; hints "8 experts do not divide by 5"
expect 2 stats e.trace e.trace --groups 2; hints "--groups means nothing with two traces"
# One domain is compared with none.
expect 0 trace --model r --data text/plain/*.txt --limit 300 --out one.trace
expect 0 stats one.trace; says "domain "; [[ "$(cat "$out")" != *"domains differ"* ]] || fail "one domain differs from others"
expect 0 stats one.trace --json; [ "$(field layers.0.domain_divergence_nats)" = None ] || fail "one domain diverges"
expect 0 stats one.trace one.trace; [[ "$(cat "$out")" != *nan* ]] || fail "nan"
# Twice is the same file; another checkpoint routes otherwise.
expect 0 trace --model r --data r/data --limit 500 --kernels ref --threads 2 --out again.trace; says "500 tokens"
cmp e.trace again.trace || fail "two traces of the same differ"
expect 0 trace --model r/checkpoints/step-000000 --data r/data --limit 500 --kernels ref --out before.trace
expect 0 stats e.trace again.trace --json; [ "$(field tokens_changed) $(field same_model)" = "0.0 True" ] || fail "same traces differ"
expect 0 stats before.trace e.trace --json; json weights_changed layers.0.assignments_changed layers.0.load_difference layers.0.against_domain_divergence_nats
[ "$(field same_model)" = False ] || fail "two checkpoints, one hash"
expect 0 stats before.trace e.trace; says "of the assignments differ"
expect 2 stats e.trace r/traces/step-000006.trace; hints "not of the same tokens"

# The same model in 4 bits: another hash, fewer bytes an expert, routes that can be compared.
expect 0 quantize --model r --type q4_0 --out small.gguf
expect 0 trace --model small.gguf --data r/data --limit 500 --kernels ref --out small.trace
expect 0 stats small.trace e.trace --json; json tokens_changed
[ "$(field same_model)" = False ] || fail "two storage types, one hash"
expect 0 replay --trace e.trace --cache 4 --policy lru --json; full=$(field policies.0.bytes_read_per_token)
expect 0 replay --trace small.trace --cache 4 --policy lru --json
python3 -c "import sys; sys.exit(not float(sys.argv[1]) < 0.3 * float(sys.argv[2]))" "$(field policies.0.bytes_read_per_token)" "$full" ||
    fail "4 bits read $(field policies.0.bytes_read_per_token) bytes a token, f32 $full"

# A generation.
expect 0 trace --model r --prompt "The " --tokens 5 --temperature 0 --out g.trace --json
[ "$(field source) $(field domains)" = "generate ['prompt', 'generated']" ] || fail "a generation's trace: $(cat "$out")"

expect 0 trace --model r --prompt "The " --tokens 5000 --out full.trace; hints "stopped: the context of "

# What is no trace, cut, bent.
expect 3 stats r/config.yaml; hints "not a trace"
expect 3 stats nowhere.trace
# A folder: where its trace is, or how to get one.
for command in "stats" "replay --cache 4 --trace" "place --slots 8 --gpus 2 --load"; do
    expect 3 $command r/; hints "r/: a folder, not a trace"; hints "hint: the last trace in it is r/traces/step-000006.trace"
    expect 3 $command r/traces; hints "r/traces/step-000006.trace"
    expect 3 $command text; hints "give the trace itself"
done
expect 3 stats e.trace r; hints "r/traces/step-000006.trace"
mkdir bare; cp r/run.sqlite bare; expect 3 stats bare; hints "train.trace_every"; hints "sigmoe trace --model bare --data bare/data"
# Ctrl-C while an evaluation is traced: nothing is left, what was there stays. A generation ends where it is.
for i in $(seq 1 300); do cat text/plain/*.txt; done >large.txt
cp e.trace kept.trace
"$SIGMOE" trace --model r --data large.txt --kernels ref --threads 1 --out kept.trace >"$out" 2>"$err" &
child=$!
for i in $(seq 1 500); do ls kept.trace.partial-* >/dev/null 2>&1 && break; sleep 0.02; done
kill -INT $child
code=0; wait $child || code=$?
[ $code -eq 130 ] || fail "interrupted, it ended with $code"
hints "interrupted; nothing is left behind"
[ "$(echo kept.trace*)" = kept.trace ] || fail "it left $(echo kept.trace*)"
cmp e.trace kept.trace || fail "what was there is gone"
cp e.trace bent.trace; flip bent.trace $(($(size bent.trace) / 2))
expect 3 stats bent.trace; hints "bent.trace"; hints "checksum"
cp e.trace cut.trace; truncate -s $(($(size cut.trace) - 10)) cut.trace
expect 0 stats cut.trace; hints "warning: cut.trace has no end"; says "500 tokens"
expect 0 stats cut.trace --json; [ "$(field complete) $(field layers.0.correlation)" = "False None" ] || fail "a trace without its end"
expect 0 place --load cut.trace --slots 8 --gpus 2 --json; [ "$(field complete)" = False ] || fail "place does not say that the end is missing"
expect 0 place --load cut.trace --slots 8 --gpus 2; hints "warning: cut.trace has no end"
expect 0 replay --trace cut.trace --cache 4 --json; [ "$(field complete)" = False ] || fail "replay does not say that the end is missing"
expect 0 replay --trace cut.trace --cache 4; hints "warning: cut.trace has no end"
expect 0 place --load e.trace --slots 8 --gpus 2 --json; [ "$(field complete)" = True ] || fail "place: a whole trace"
# A block of 1,024 tokens and the next one's length with one bit turned: damage, and not the end of what was written.
expect 0 trace --model r --data r/data --limit 2500 --kernels ref --out long.trace
python3 - long.trace <<'PY'
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
at, = struct.unpack_from("<Q", data, 32)
seen = 0
while seen < 2:
    kind, _, size = struct.unpack_from("<IIQ", data, at)
    seen += kind == 1
    at += 0 if seen == 2 else size
data[at + 8 + 5] ^= 1
open("turned.trace", "wb").write(data)
open("half.trace", "wb").write(data[:at + 8])
PY
for command in "stats" "replay --cache 4 --trace" "place --slots 8 --gpus 2 --load"; do
    expect 3 $command turned.trace; hints "does not have the length"
    expect 0 $command half.trace; hints "has no end"
done

# Placement.
echo '[90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]' >flat.json
expect 0 place --method eplb --load flat.json --slots 16 --groups 4 --nodes 2 --gpus 8 --json
json physical_to_logical.0.15 replicas.0.11 mean_over_max_per_gpu planner_seconds
[ "$(field physical_to_logical)" = "[[5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1]]" ] || fail "the published plan"
# Null experts have no weights that would have to lie anywhere: here the last of three.
echo '{"null_experts": 1, "layers": [{"load": [5, 3, 90]}, {"load": [1, 2, 70]}]}' >null.json
expect 0 place --load null.json --slots 2 --gpus 2 --json
[ "$(field physical_to_logical) $(field layer_mean_over_max_per_gpu)" = "[[0, 1], [0, 1]] [0.8, 0.75]" ] || fail "null experts were placed"
expect 0 place --load e.trace --slots 12 --gpus 4 --json; json physical_to_logical.1.11
plan=$(field physical_to_logical)
expect 0 stats e.trace --json; cp "$out" load.json
expect 0 place --load load.json --slots 12 --gpus 4 --json
[ "$plan" = "$(field physical_to_logical)" ] || fail "a trace and its stats give different plans"
expect 0 place --method snake --load flat.json --slots 12 --gpus 3; says "GPU 2"; says "mean over greatest"
[ "$(grep -c replicas "$out")" = 0 ] || fail "a legend of replicas where there are none"
expect 0 place --load flat.json --slots 15 --gpus 3; says "*: one of several replicas"
echo '[1e308, 1e308, 1, 2]' >huge.json; expect 2 place --load huge.json --slots 4 --gpus 2; hints "sum of all loads"
expect 2 place --method epbl --load flat.json --slots 16 --gpus 8; hints "did you mean eplb?"
expect 2 place --load flat.json --slots 15 --gpus 8; hints "15 slots do not divide"
expect 2 place --load flat.json --slots 8 --gpus 8; hints "do not hold"
echo '[[1, 2], [1, 2, 3]]' >ragged.json; expect 3 place --load ragged.json --slots 4 --gpus 2; hints "different numbers"
echo '[[1, "x"]]' >words.json; expect 3 place --load words.json --slots 4 --gpus 2; hints "no list of numbers"
echo '{}' >empty.json; expect 3 place --load empty.json --slots 4 --gpus 2; hints "no list of layers"
echo 'text' >text.json; expect 3 place --load text.json --slots 4 --gpus 2; hints "neither JSON nor a trace"
expect 3 place --load nowhere.json --slots 4 --gpus 2

# Replay.
expect 0 replay --trace e.trace --cache 4 --json; json tokens cache_experts_per_layer policies.5.policy policies.0.layers.1.hit_rate policies.0.bytes_read_per_token
expect 0 replay --trace e.trace --cache 4 --pool model --policy all; says "optimal"; says "least_stale"; says "first uses"
expect 0 replay --trace e.trace --cache-mb 0.1 --policy lru --json; [ "$(field cache_experts_per_layer)" = 2 ] || fail "100 kB hold $(field cache_experts_per_layer)"
expect 0 replay --trace e.trace --cache 2 --policy lfu_decay --set decay=0.9 period=10 fallback=stream threshold=2 --json; json policies.0.fallbacks policies.0.passed_by
expect 0 list cache lfu_decay; says "matters with fallback stream"
expect 2 replay --trace e.trace; hints "either --cache or --cache-mb"
expect 2 replay --trace e.trace --cache 2 --policy lur; hints "did you mean"
expect 2 replay --trace e.trace --cache 2 --policy lru --set decay=0.5; hints "has no setting \"decay\""
expect 2 replay --trace e.trace --cache 2 --set half=0.5; hints "no cache policy has the setting"
expect 2 replay --trace e.trace --cache 2 --policy lfu_decay --set decay=2; hints "out of range"
expect 2 replay --trace e.trace --cache 2 --pool all; hints "no pool"
expect 2 replay --trace e.trace --cache-mb 0.01; hints "does not fit"
expect 3 replay --trace flat.json --cache 2; hints "not a trace"

# Contradictions.
expect 2 trace --model r --out x.trace; hints "either --data or --prompt"
expect 2 trace --model r --data r/data --prompt a --out x.trace; hints "either --data or --prompt"
expect 2 trace --model r --data r/data --tokens 3 --out x.trace; hints "--tokens means nothing with --data"
expect 2 trace --model r --prompt a --limit 3 --out x.trace; hints "--limit means nothing with --prompt"
expect 2 stats; hints "--model M is missing, or a trace"
expect 2 stats --model r; hints "--data FILE… is missing"
expect 2 stats e.trace --model r; hints "--model means nothing with a trace"
expect 2 trace --model r --data r/data --out r; hints "it is a folder"
cp r/config.yaml mine; expect 2 trace --model r --data r/data --out mine; hints "is no trace"
cmp mine r/config.yaml || fail "a file that is no trace was touched"
[ ! -e x.trace ] || fail "a refused command left a file"
