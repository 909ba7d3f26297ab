# Attention and routers of another kind; fewer and more experts; runs that begin with a model and freeze parts of it.
small_run r 6
expect 0 stats --model r --data text/plain/*.1.txt --json; cp "$out" load.json
expect 0 prune --model r --keep 3 --load load.json --out three --json
json path layers experts_before experts total_parameters kept_share least_kept_share
[ "$(field experts)" = 3 ] && [ "$(field experts_before)" = 8 ] || fail "not three of eight"
expect 0 prune --model r --keep 3 --data text/plain/*.1.txt --out counted; says "3 experts a layer, before 8"
cmp three/model.safetensors counted/model.safetensors || fail "counts from a file and from text differ"
expect 0 trace --model r --data text/plain/*.1.txt --out load.trace
expect 0 prune --model r --keep 3 --load load.trace --out traced
cmp three/model.safetensors traced/model.safetensors || fail "counts from a trace and from text differ"
expect 2 prune --model three --keep 2 --load load.trace --out x; hints "with 8 experts"
expect 0 inspect three; says "3 a layer"
expect 0 generate --model three --prompt "The " --tokens 5
expect 0 eval --model three --data text/plain/*.1.txt --json; json bits_per_byte
expect 0 prune --model r --drop-below 0.05 --load load.json --out small; says "% of the tokens"
expect 0 grow --model three --add 2 --out five --json; [ "$(field experts)" = 5 ] || fail "not five"
expect 0 grow --model three --add 2 --fresh --seed 4 --out fresh
expect 0 generate --model fresh --prompt "The " --tokens 5
expect 0 grow --model r --add 8 --null --noise 0 --experts-per-token 2 --out null; says "16 experts a layer, 8 of them null, before 8"
expect 0 inspect null; says "2 per token"
expect 0 grow --model r --add 4 --null --fresh --seed 3 --out strangers --json
[ "$(field experts)" = 12 ] && [ "$(field null_experts)" = 4 ] || fail "not four null ones of twelve"
expect 0 generate --model null --prompt "The " --tokens 5
expect 2 grow --model r --add 1 --null --experts-per-token 10 --out x; hints "cannot activate 10 of 9"
expect 3 grow --model null --add 1 --out x; hints "null experts"
# What is not one thing or the other, what is there already, what is no list of counts.
expect 2 prune --model r --keep 3 --out x; hints "--load and --data"
expect 2 prune --model r --load load.json --out x; hints "--keep and --drop-below"
expect 2 prune --model r --keep 3 --drop-below 0.1 --load load.json --out x; hints "--keep and --drop-below"
expect 2 prune --model three --keep 2 --load load.json --out x; hints "with 8 experts"
expect 2 prune --model r --keep 3 --load load.json --out three; hints "exists"
expect 2 grow --model r --add 2 --fresh --noise 0.1 --out x; hints "--noise is for copies"
echo '{"layers": 3}' >wrong.json; expect 3 prune --model r --keep 3 --load wrong.json --out x; hints "stats"
echo 'layers' >wrong.json; expect 3 prune --model r --keep 3 --load wrong.json --out x
echo '{"layers": [{"load": [1, 2.5]}]}' >wrong.json; expect 3 prune --model r --keep 1 --load wrong.json --out x
hints "whole number"
[ ! -e x ] && [ ! -e x.part ] || fail "a refused command left a folder"
# A slash at the end of --out is no part of the name, and what fails leaves nothing that is in the next one's way.
expect 0 prune --model r --keep 3 --load load.json --out slash/three/; cmp three/model.safetensors slash/three/model.safetensors
expect 0 grow --model slash/three/ --add 2 --out slash/five//; [ -e slash/five/model.safetensors ] || fail "no slash/five"
expect 2 grow --model three --add 2 --out slash/five/; hints "slash/five exists"
[ "$(ls -A slash)" = "$(printf 'five\nthree')" ] || fail "beside the models: $(ls -A slash)"
# A run that begins with it: the new experts learn, the old stay.
expect 0 train "${PICO[@]}" --data text --run more --steps 3 --quiet \
    --set train.from=five model.experts=5 'train.freeze=model.layers.*.mlp.experts.[0-2].*,model.layers.*.self_attn.*'
expect 2 train "${PICO[@]}" --data text --run wrong --steps 3 --set train.from=five; hints "model.experts is 5"
# Stick-breaking attention and a hidden layer in the router: trained, looked at, packed, generated from.
expect 0 train "${PICO[@]}" --data text --run sticks --steps 3 --quiet \
    --set model.attention=stick_breaking model.gate_hidden=12
expect 0 inspect sticks; says "stick-breaking"; says "hidden layer of 12"
expect 0 inspect sticks --json; json attention gate_hidden
[ "$(field attention)" = stick_breaking ] && [ "$(field gate_hidden)" = 12 ] || fail "inspect"
expect 0 quantize --model sticks --type q8_0 --out sticks.gguf; says "architecture sigmoe"
expect 0 generate --model sticks.gguf --prompt "The " --tokens 5
expect 2 quantize --model sticks --type f32 --arch qwen3moe --out no.gguf; hints "stick-breaking"
