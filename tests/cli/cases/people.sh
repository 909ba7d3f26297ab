# What people read: every report as text, with the same numbers as --json has.
expect 0 init --preset pico --seed 2 --out m; says "m: 141 k parameters"
expect 0 inspect m --json; parameters=$(field total_parameters)
grouped=$(printf %s "$parameters" | sed ':a; s/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/; ta')
expect 0 inspect m; says "parameters        $grouped ("; says "qwen3_moe, router top_k"; says "tokenizer         yes"
says "2, width 64"; says "8 a layer of width 32, 1 per token"
expect 0 plan --preset pico --json; [ "$(field total_parameters)" = "$parameters" ] || fail "plan and inspect differ"
expect 0 plan --preset pico --tokens 10M; says "parameters        $grouped ("; says "for 10,000,000 tokens"
says "enough to train it"
expect 0 plan --preset sigma-moe-tiny --set model.layers=10000; says "not enough to load it"

head -c 3000 "$TOP/README.md" >text.txt
expect 0 eval --model m --data text.txt --json; bits=$(field bits_per_byte)
expect 0 eval --model m --data text.txt; says "bits per byte   $(printf %.4f "$bits")"; says "2.93 KiB in 3,000 tokens"
expect 0 stats --model m --data text.txt --json; least=$(printf %.2f "$(field layers.1.min_over_mean)")
expect 0 stats --model m --data text.txt
[[ "$(grep -E '^ +1 ' "$out")" == *" $least "* ]] || fail "stats and stats --json differ: $least"
expect 0 stats --model m --data text.txt --groups 4 --json
json groups layers.1.imbalance_score layers.1.imbalance_noise_floor layers.1.group_max_over_mean
score=$(printf %.3f "$(field layers.1.imbalance_score)")
expect 0 stats --model m --data text.txt --groups 4; says "between 4 devices of 2 experts each"; says "    1  $score"
expect 2 stats --model m --data text.txt --groups 3; hints "8 experts do not divide by 3"; hints "every device"
# Null experts are no device's: six of eight are shared out.
expect 0 init --preset pico --seed 3 --set model.null_experts=2 model.experts_per_token=2 --out nulls
expect 0 stats --model nulls --data text.txt --limit 300 --groups 3; says "between 3 devices of 2 experts each"
expect 2 stats --model nulls --data text.txt --groups 4; hints "6 experts that have weights do not divide by 4"
expect 0 init --preset pico --seed 3 --out m3
expect 0 stats --model m --against m3 --data text.txt --json; json against.model against.bits_per_byte tokens_changed layers.1.assignments_changed
share=$(awk "BEGIN { printf \"%.2f\", 100 * $(field assignments_changed) }"); other=$(field against.bits_per_byte)
expect 0 stats --model m --against m3 --data text.txt; says "against m3: $share % of the assignments"
says "Bits per byte $(printf %.4f "$bits"), there $(printf %.4f "$other")."
expect 0 stats --model m --against m --data text.txt; says "against m: 0.00 % of the assignments"
expect 0 eval --model m --data text.txt --limit 500; says "500 bytes in 500 tokens"

expect 0 doctor --seconds 0; says "processor"; says "kernels      ref"; says "<- auto"; says "available"
expect 0 doctor --seconds 0.05 --threads 1; says "FLOP/s in f32"; says "with 1 thread"
says "FLOP/s in bf16"; says "OP/s in int8"; says "/s read from memory"
expect 0 doctor --seconds 0.05 --threads 1 --file "$SIGMOE"; says "/s read from $SIGMOE, mapped"
expect 3 doctor --seconds 0.05 --file no-such-file
expect 0 doctor --seconds 0.05 --json; json flops_per_second bf16_flops_per_second int8_ops_per_second bytes_per_second

expect 0 list; says "router     top_k"
expect 0 list balancers; says "loss_free_bias"; says "arXiv 2408.15664"
expect 0 list schedule wsd; says "warmup_steps = auto"; says "or auto"
expect 0 list config; says "  balance = load_balance_loss"; says "model.experts = 96"
expect 0 list config router --set router.kind=top_k router.score=sigmoid; says "router.score = sigmoid"
grep -q model "$out" && fail "more than the section"
expect 0 list config model.layers --json; json 0.value; [ "$(field 0.key)" = model.layers ] || fail "key"

expect 0 tokenizer info m; says "end of text     id 256"; says "257 ids"
printf 'Hello ' >prompt
expect 0 generate --model m --prompt-file prompt --tokens 3 --temperature 0; says "Hello "
expect 0 generate --model m --prompt-file prompt --tokens 3 --temperature 0 --no-echo
grep -q Hello "$out" && fail "--no-echo echoes"
# An unsupported model is a bad input file.
sed -i 's/"qwen3_moe"/"llama"/' m/config.json
expect 3 inspect m; hints "llama"
