# Configurations that cannot work: exit 2, the hint says what would.
expect 2 plan --preset nano --set model.experts_per_token=97; hints "model.experts"
expect 2 plan --preset nano --set model.heads=6 model.kv_heads=4; hints "kv_heads"
expect 2 plan --preset nano --set model.head_size=33; hints "head_size"
expect 2 plan --preset nano --set model.attention_experts_per_token=2; hints "model.attention_experts too, or model.attention_experts_per_token to 1"
expect 2 plan --preset nano --set model.layers=0; hints "model.layers"
expect 2 plan --preset nano --set model.layers=two; hints "model.layers"
expect 2 plan --preset nano --set model.tie_embeddings=maybe; hints "tie_embeddings"
small_text
expect 2 train "${PICO[@]}" --data text --run r --set model.experts_per_token=9; hints "experts"
[ ! -e r ] || fail "a run folder was left behind"
# The memory is said before it is taken.
expect 1 train --preset sigma-moe-tiny --data text --run r --set data.tokenizer=bytes model.vocabulary=257
hints "memory"
[ ! -e r ] || fail "a run folder was left behind"
# More tokens than the text has bytes: said before a model of that size is made.
small_text
timeout 20 "$SIGMOE" train --preset pico --set model.vocabulary=16777216 --data text --run large >"$out" 2>"$err" \
    && fail "16 million tokens from a little text"
hints "cannot give 16777216 tokens"; hints "hint: "
[ ! -e large ] || fail "a run folder was made"
