# SIGKILL at any moment, then --resume: the same checkpoint bytes as a run that went through.
small_run whole 40 --checkpoint-every 5 --set data.tokens_per_step=256
for pause in 0.02 0.07 0.13; do
    "$SIGMOE" train "${PICO[@]}" --data text --run r --steps 40 --checkpoint-every 5 --set train.eval_every=0 \
        train.eval_tokens=1024 train.final_eval_tokens=1024 train.sample_tokens=8 data.tokens_per_step=256 >log 2>&1 &
    child=$!
    for i in $(seq 1 300); do [ -e r/checkpoints/latest ] && break; sleep 0.02; done
    sleep $pause
    kill -KILL $child 2>/dev/null || true
    wait $child 2>/dev/null || true
    expect 0 train --resume r
    same_folder whole/checkpoints/step-000040 r/checkpoints/step-000040
    [ "$(sqlite_steps() { python3 -c 'import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute("select count(*),max(step) from steps").fetchone())' "$1"; }; sqlite_steps r/run.sqlite)" = "(40, 40)" ] \
        || fail "rows of run.sqlite are missing or doubled"
    rm -rf r
done
