# --json: valid, with the fields that are promised.
small_run r 6 --json; json run step steps tokens bits_per_byte layers.0.dead_experts
expect 0 inspect r --json; json total_parameters active_parameters layers experts experts_per_token vocabulary bytes dtype
expect 0 eval --model r --data text/plain/*.1.txt --json; json tokens bytes loss_nats_per_token perplexity bits_per_byte
expect 0 eval --model r --data r/data --json; json bits_per_byte
expect 0 stats --model r --data text/plain/*.1.txt --json
json layers.1.tokens layers.0.min_over_mean layers.0.max_over_mean layers.0.max_violation layers.0.dead_experts layers.0.entropy_over_log_e
expect 0 generate --model r --prompt "The " --tokens 5 --json; json prompt_tokens tokens text token_ids stopped seconds
expect 0 report r --json; json path
expect 0 doctor --seconds 0 --json; json cores kernels.0.name auto
expect 0 plan --preset micro --json; json total_parameters training_bytes training_flops_per_token
[ "$(field training_rounded_bytes)" = 0 ] || fail "f32 has no copy of its weights"
expect 0 plan --preset micro --set train.compute=bf16 --json
[ "$(field training_rounded_bytes)" = $((2 * $(field total_parameters))) ] || fail "a plan in bf16 does not tell of the weights' copy"
expect 0 plan --preset micro --set train.compute=bf16; says "for the weights in bf16"
expect 0 list --json; json 0.registry 0.names
expect 0 list routers --json; json 0.name
expect 0 list balance load_balance_loss --json; json params.0.default
expect 0 list config --preset pico --json; json 0.key 0.value 0.origin
expect 0 init --preset pico --out m --json; json path total_parameters bytes
expect 0 data info r/data --json; json domains.0.heldout.bytes
expect 0 tokenizer info r/data/tokenizer --json; json vocabulary
# Nothing left to do is not step 0.
expect 0 train --resume r --json
[ "$(field step) $(field steps)" = "6 6" ] || fail "a finished run says step $(field step) of $(field steps)"
[ "$(field tokens)" -gt 0 ] || fail "tokens"
expect 0 train --resume r; says "nothing left to train at step 6 of 6"
