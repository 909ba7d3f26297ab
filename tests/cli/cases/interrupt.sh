# Ctrl-C and SIGTERM save and exit 130; going on ends like a run that never stopped.
small_run whole 40 --checkpoint-every 0 --set data.tokens_per_step=256
for signal in INT TERM; do
    rm -f log # the last one has steps in it too
    "$SIGMOE" train "${PICO[@]}" --data text --run r --steps 40 --checkpoint-every 0 --set train.eval_every=0 \
        train.eval_tokens=1024 train.final_eval_tokens=1024 train.sample_tokens=8 data.tokens_per_step=256 --line-every 1 >log 2>&1 &
    child=$!
    for i in $(seq 1 200); do grep -qs "^step [3-9]" log && break; sleep 0.02; done
    kill -$signal $child
    code=0; wait $child || code=$?
    if [ $code -eq 130 ]; then
        grep -q 'train --resume r' log || fail "it does not say how to go on: $(cat log)"
        step=$(readlink r/checkpoints/latest)
        [ "$step" != step-000040 ] || fail "it was interrupted, yet it finished"
        expect 0 train --resume r
    else
        [ $code -eq 0 ] || fail "$signal: exit $code: $(cat log)" # so fast that it had finished
    fi
    same_folder whole/checkpoints/step-000040 r/checkpoints/step-000040
    rm -rf r
done
