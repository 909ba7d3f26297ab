# Damaged shards and manifests: exit 3, the file is named.
small_text
expect 0 data build --data text --vocabulary 300 --heldout-share 0.2 --out c
shard=$(ls c/train-*.sgmd | head -n 1)
for at in 0 5 $(($(size "$shard") / 2)) $(($(size "$shard") - 3)); do
    rm -rf d; cp -r c d; flip "d/$(basename "$shard")" "$at"
    expect 3 train "${PICO[@]}" --data d --run r --steps 1; hints "$(basename "$shard")"
done
rm -rf d; cp -r c d; cut_short "d/$(basename "$shard")"
expect 3 data info d; hints "$(basename "$shard")"
rm -rf d; cp -r c d; rm "d/$(basename "$shard")"
expect 3 data info d; hints "$(basename "$shard")"
rm -rf d; cp -r c d; cut_short d/manifest.json
expect 3 data info d; hints "manifest.json"
[ ! -e r ] || fail "a run folder was left behind"
