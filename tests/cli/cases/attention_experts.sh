# A model whose attention is a mixture too: trained, resumed, looked at, traced, generated from; what it is not for is refused.
small_text
WITH=(model.attention_experts=12 model.attention_experts_per_token=2 train.trace_every=3)
expect 0 train "${PICO[@]}" --data text --run r --steps 6 --checkpoint-every 3 --plain --set "${WITH[@]}"
says "0a  2       12"; says "1f  1        8"
expect 0 train "${PICO[@]}" --data text --run half --steps 3 --checkpoint-every 3 --quiet --set "${WITH[@]}"
expect 0 train --resume half --steps 6 --json
[ "$(field layers.2.part)" = attention ] && [ "$(field layers.2.layer)" = 1 ] || fail "layers of train --json"
expect 0 inspect r; says "12 experts a layer, 2 per token, each with 4 heads"
expect 0 inspect r --json; [ "$(field attention_experts)" = 12 ] || fail "inspect"
expect 0 plan --preset pico --set model.attention_experts=12 --json; json attention_experts_per_token
expect 0 generate --model r --prompt "The " --tokens 5
expect 0 stats --model r --data text/plain/*.1.txt --limit 600; says "12 attention experts and 8 experts a layer"; says "   1a "
says "a: a layer's attention experts"
expect 0 stats --model r --data text/plain/*.1.txt --limit 600 --json; json attention_experts layers.3.load.7 layers.2.load.11
[ "$(field layers.3.part)" = feed_forward ] && [ "$(field layers.3.layer)" = 1 ] || fail "layers of stats --json"
expect 0 stats --model r --against half --data text/plain/*.1.txt --limit 600
expect 0 trace --model r --data text/plain/*.1.txt --limit 600 --out r.trace; says "layers of 12 experts in attention and 8 experts, "
expect 0 stats r.trace; says "12 attention experts and 8 experts a layer"
expect 0 trace --model half --data text/plain/*.1.txt --limit 600 --out half.trace
expect 0 stats r.trace half.trace; says "   1a "
expect 0 stats r.trace half.trace --json; [ "$(field layers.2.part)" = attention ] || fail "layers of two traces"
expect 0 report r; grep -q "12 attention experts" r/report.html || fail "the report does not say it"
expect 0 bench --model r --decode 4 --prefill 8 --repeats 1 --json
expect 0 bench --model r --train --repeats 1 --json
# What is refused says why and what to do.
expect 2 stats --model r --data text/plain/*.1.txt --limit 600 --groups 2; hints "two kinds"
expect 2 stats r.trace --groups 2; hints "two kinds"
expect 3 replay --trace r.trace --cache 2; hints "those of attention too"
expect 3 place --method eplb --load r.trace --slots 16 --gpus 4; hints "attention experts"
expect 3 quantize --model r --type q8_0 --out r.gguf; hints "attention experts"; hints "keep it as a model folder"
expect 3 prune --model r --keep 3 --data text/plain/*.1.txt --limit 600 --out x; hints "attention experts"
expect 3 grow --model r --add 2 --out x; hints "attention experts"
expect 2 train "${PICO[@]}" --data text --run no --steps 3 --set model.attention_experts=4 model.null_experts=2; hints "null experts"
expect 2 train "${PICO[@]}" --data text --run no --steps 3 --set model.attention_experts=4 router.kind=sinkhorn; hints "token by token"
expect 2 train "${PICO[@]}" --data text --run no --steps 3 --set model.attention_experts=4 train.from=r; hints "attention_experts is 12"
[ ! -e x ] && [ ! -e no ] && [ ! -e r.gguf ] || fail "a refused command left something"
