# Reference kernels: the same bytes for 1, 2 and 3 threads, and for any split into micro-batches.
small_text
common=(train --preset pico --kernels ref --data text --steps 6 --set train.eval_tokens=1024 train.final_eval_tokens=1024)
expect 0 "${common[@]}" --run one --threads 1
for threads in 2 3; do
    expect 0 "${common[@]}" --run t$threads --threads $threads
    cmp one/checkpoints/step-000006/model.safetensors t$threads/checkpoints/step-000006/model.safetensors \
        || fail "$threads threads give other weights"
done
expect 0 train --preset pico --kernels ref --data text --steps 6 --threads 2 --run split \
    --set train.eval_tokens=1024 train.final_eval_tokens=1024 data.micro_batch_tokens=128
cmp one/checkpoints/step-000006/model.safetensors split/checkpoints/step-000006/model.safetensors \
    || fail "micro-batches give other weights"
# 0 is as many as there are cores, wherever threads are asked for; a resumed run keeps its number without it.
threads_of() { sed -n 's/^ *threads: \([0-9]*\).*/\1/p' "$1/config.yaml"; }
same() { [ "$1" = "$2" ] || fail "$3: $1 threads, wanted $2"; }
expect 0 "${common[@]}" --run all --threads 0
cores=$("$SIGMOE" doctor --seconds 0 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["cores"])')
same "$(threads_of all)" "$cores" "train --threads 0"
expect 0 train --resume one --steps 7; says "machine     1 thread, "
expect 0 train --resume one --steps 8 --threads 0; says "machine     $cores thread"
expect 0 doctor --threads 0 --seconds 0 --json
[ "$(field threads)" = "$cores" ] || fail "doctor --threads 0 takes not all cores"
# Threads without a core slow down: a note on stderr, not one where the cores suffice.
expect 0 generate --model one --tokens 1 --threads 1
[ ! -s "$err" ] || fail "one thread is noted"
expect 0 generate --model one --tokens 1 --threads $(($(nproc) + 1)); hints "note: --threads"
