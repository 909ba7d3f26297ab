# bench: what was asked for is measured and promised fields are there; nothing is left behind; wrong input is said.
export TMPDIR=$PWD/tmp
mkdir tmp
PICO=(--preset pico --threads 1 --repeats 3)
expect 0 bench "${PICO[@]}" --prefill 30 --decode 4 --train --json
json version cpu kernels machine.0.flops_per_second machine.0.bf16_flops_per_second \
    machine.0.int8_ops_per_second machine.0.read_bytes_per_second prefill_tokens_per_second \
    decode_tokens_per_second train_tokens_per_second samples.prefill_tokens_per_second.2 \
    samples.decode_tokens_per_second.2 samples.train_tokens_per_second.2 peak_rss_bytes open_seconds private_bytes \
    results.0.share_of_peak results.1.bytes_per_second results.1.share_of_bandwidth results.2.loss_nats_per_token
[ "$(field results.2.measure) $(field results.2.tokens) $(field results.2.context)" = "train 512 64" ] || fail "training"
# The largest sample is no smaller than the median, and so on.
python3 - "$out" <<'PY' || fail "the spread is not one"
import json, sys
for r in json.load(open(sys.argv[1]))["results"]:
    s = sorted(r["samples"])
    assert abs(s[1] / r["tokens_per_second"] - 1) < 1e-6 and s[0] > 0
    assert abs(s[0] / r["min"] - 1) < 1e-6 and abs(s[2] / r["max"] - 1) < 1e-6
    assert 1 <= r["experts_hit"] <= r["experts_hit_mean"] <= min(8, r["tokens"])
PY
# Lists give lists, in the order asked for; the bytes of a decoded token: 4 for each weight that works, and the cache.
expect 0 bench "${PICO[@]}" --decode 2,3 --depth 0,70 --json
json decode_tokens_per_second.3 samples.decode_tokens_per_second.3.2
[ "$(field results.3.depth) $(field results.3.tokens)" = "70 3" ] || fail "order of the lists"
expect 0 plan --preset pico --json
active=$(field active_parameters)
expect 0 bench "${PICO[@]}" --decode 2 --depth 4 --json
[ "$(field results.0.weight_bytes_per_token)" = "$((4 * (active + 257 * 64 + 64))).0" ] || fail "bytes of a token"
[ "$(field results.0.cache_bytes_per_token)" = "$((2 * 2 * 32 * 4 * 5)).0" ] || fail "bytes of keys and values"
expect 0 bench "${PICO[@]}" --decode 2 --depth 4 --kv-type f16 --json
[ "$(field results.0.cache_bytes_per_token)" = "$((2 * 2 * 32 * 2 * 5)).0" ] || fail "bytes of keys and values in f16"
# A model that is there is trained as it is: with its attention and its router's hidden layer.
expect 0 init --preset pico --set model.attention=stick_breaking model.gate_hidden=8 --out sticks
expect 0 bench --model sticks --threads 1 --repeats 1 --train --batch 1 --context 32 --json
hidden=$(field results.0.flops_per_second) rate=$(field results.0.tokens_per_second)
expect 0 bench --preset pico --set model.gate_hidden=8 --threads 1 --repeats 1 --train --batch 1 --context 32 --json
awk -v a="$hidden" -v b="$rate" -v c="$(field results.0.flops_per_second)" -v d="$(field results.0.tokens_per_second)" \
    'BEGIN { exit !(a / b > 0.9999 * c / d && a / b < 1.0001 * c / d) }' || fail "training of a model with a hidden layer"
# Sweeps of training; a model that is there; products alone.
expect 0 bench "${PICO[@]}" --train --batch 1,2 --context 32 --json
[ "$(field results.0.tokens) $(field results.1.tokens)" = "32 64" ] || fail "batches"
expect 0 init --preset pico --set model.experts=4 --out m
expect 0 bench --model m --threads 1 --repeats 1 --prefill 60 --train
says "experts hit"; says "of peak"; says "opened in"
expect 0 bench "${PICO[@]}" --products --rows 1,5 --json; json results.0.n results.0.k results.0.type
expect 0 bench "${PICO[@]}" --products --rows 1; says "bf16"; says "of read"
# A preset's model in another type is a file that is mapped.
expect 0 bench "${PICO[@]}" --decode 4 --prefill 5 --type q8_0 --json
json machine.0.mapped_bytes_per_second
[ "$(field results.0.arithmetic)" = int8 ] || fail "arithmetic"
expect 0 bench "${PICO[@]}" --decode 4 --type bf16; says "from the model's file, mapped"; says "bf16"
# Wrong input.
expect 2 bench; hints "nothing is asked for"
expect 2 bench --preset pico --decode 0; hints "out of range"
expect 2 bench --preset pico --decode 4,x; hints "is not a whole number"
expect 2 bench --preset pico --decode 4,; hints "is not a whole number"
expect 2 bench --preset pico --decode 4 --repeats 1000; hints "legal values are 1 to 100"
expect 2 bench --preset picco --decode 4; hints "pico"
expect 2 bench --preset pico --products --type q9; hints "type"
# Before anything is measured.
expect 2 bench --preset pico --decode 4 --train --context 64,100000000; hints "1 to 16777216"
! grep -q decode "$out" || fail "it measured before it refused"
expect 2 bench --preset pico --decode 4 --kernels sse; hints "sse"
expect 2 bench --preset pico --decode 4 --kv-type q2; hints "q2"
expect 2 bench --preset pico --decode 4 --type q9; hints "q9"
expect 2 bench --model m --preset pico --decode 4; hints "cannot be combined with --model"
expect 2 bench --model m --decode 4 --depth 1000; hints "context"
expect 3 bench --model nowhere --decode 4; hints "nowhere"
expect 2 bench --preset pico --train --context 96 --batch 3 --set data.micro_batch_tokens=64; hints "micro_batch"
[ -z "$(ls tmp)" ] || fail "left behind: $(ls tmp)"
