# A run folder that exists is not touched; two processes cannot work in one.
small_run a 4
before=$(find a -type f | sort | xargs sha256sum)
expect 2 train "${PICO[@]}" --data text --run a --steps 4; hints "a"; hints "hint: "
[ "$before" = "$(find a -type f | sort | xargs sha256sum)" ] || fail "the run that was there was changed"
mkdir empty
expect 3 train --resume empty
expect 3 train --resume nowhere
"$SIGMOE" train "${PICO[@]}" --data text --run busy --steps 1000000 --checkpoint-every 0 >log 2>&1 &
first=$!
for i in $(seq 1 100); do grep -q '^step ' log && break; sleep 0.1; done
expect 1 train --resume busy; hints "$first"
kill -INT $first
code=0; wait $first || code=$?
[ $code -eq 130 ] || fail "the first process ended with $code: $(tail -n 3 log)"
