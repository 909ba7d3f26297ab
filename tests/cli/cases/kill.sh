# SIGKILL at any moment, then --resume: the same checkpoint bytes as a run that went through. The moments are counted from the
# checkpoint of a step, not from the start: a slow machine would not have come to one, a fast one to the end.
small_run whole 40 --checkpoint-every 5 --set data.tokens_per_step=256
for moment in "0 0.02" "5 0.03" "15 0.01" "25 0.02"; do
    read -r step pause <<<"$moment"
    "$SIGMOE" train "${PICO[@]}" --data text --run r --steps 40 --checkpoint-every 5 --set train.eval_every=0 \
        train.eval_tokens=1024 train.final_eval_tokens=1024 train.sample_tokens=8 data.tokens_per_step=256 >log 2>&1 &
    child=$!
    while kill -0 $child 2>/dev/null; do
        latest=$(readlink r/checkpoints/latest || true)
        [ -z "$latest" ] || [ $((10#${latest#step-})) -lt "$step" ] || break
        sleep 0.01
    done
    sleep "$pause"
    kill -KILL $child 2>/dev/null || true
    wait $child 2>/dev/null || true
    expect 0 train --resume r
    same_folder whole/checkpoints/step-000040 r/checkpoints/step-000040
    [ "$(sqlite_steps() { python3 -c 'import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute("select count(*),max(step) from steps").fetchone())' "$1"; }; sqlite_steps r/run.sqlite)" = "(40, 40)" ] \
        || fail "rows of run.sqlite are missing or doubled"
    rm -rf r
done
