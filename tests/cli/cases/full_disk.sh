# A limit on the size of files is an error with a message, not a signal.
small_text
(ulimit -f 100
 expect 1 train "${PICO[@]}" --data text --run limited --steps 2 2>/dev/null; hints "ulimit -f"; hints "hint: ")
# So it is of a trace: the file and the reason, and nothing is left.
expect 0 train "${PICO[@]}" --data text --run traced --steps 2 --quiet
(ulimit -f 100
 expect 1 trace --model traced --data text/plain/*.txt --kernels ref --out long.trace 2>/dev/null
 hints "cannot write long.trace"; hints "ulimit -f"
 [ -z "$(ls | grep long.trace)" ] || fail "left of a trace: $(ls)")
# The disk fills up during a checkpoint: exit 1, the previous checkpoint stays usable.
small_run a 10 --checkpoint-every 10
used=$(du -sk a | cut -f 1)
if [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=$((used + 300))k none disk 2>/dev/null; then
    trap 'umount disk' EXIT
    cp -r a disk/a
    code=0; "$SIGMOE" train --resume disk/a --steps 30 >"$out" 2>"$err" </dev/null || code=$?
    [ $code -eq 1 ] || fail "a full disk: exit $code"
    grep -q '^error: ' "$err" || fail "no error line"
    expect 0 inspect disk/a --json; json step total_parameters
    expect 0 generate --model disk/a --prompt "a" --tokens 4
else
    (ulimit -f $(($(size a/checkpoints/latest/model.safetensors) / 2048))
     code=0; "$SIGMOE" train --resume a --steps 30 >"$out" 2>"$err" </dev/null || code=$?
     [ $code -eq 1 ]) || fail "a file size limit did not end with 1"
    expect 0 inspect a --json; json step
fi
# A lab's runs are read on a full disk, too; what has no room are the results, and no run is called damaged.
cat >tiny.yaml <<'EOF'
name: tiny
preset: pico
steps: 4
tokens_per_step: 128
seeds: 1
set: {train.kernels: ref, train.threads: 1, train.eval_tokens: 500, train.final_eval_tokens: 500}
arms: [{name: none, set: {balance: none}}]
EOF
expect 0 lab run tiny.yaml --data text --out l --discard-checkpoints
if mkdir small 2>/dev/null && [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=4M none small 2>/dev/null; then
    trap 'umount disk small' EXIT
    cp -r l small/l
    dd if=/dev/zero of=small/rest bs=1k status=none 2>/dev/null || true
    expect 1 lab report small/l; hints "results.json"
    ! grep -q "remove this run" "$err" || fail "it says to remove a run that is whole"
fi
