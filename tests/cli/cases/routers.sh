# Routers by name: their parameters, what they refuse, and a run with each that generates and is evaluated.
expect 0 list routers; says "expert_choice"; says "sinkhorn"; says "hash"; says "grouped"; says "deepseek_v3"
expect 0 list router grouped; says "groups"; says "arXiv 2505.21411"
expect 2 plan --set router.kind=grouped router.groups=4; hints "top_k"
expect 2 plan --set router.kind=grouped router.groups=5 model.experts_per_token=5; hints "must divide model.experts"
expect 2 plan --set router.kind=deepseek_v3; hints "router.normalise"
expect 2 plan --set router.kind=hash; hints "set balance to none"
expect 0 plan --set router.kind=hash balance=none
expect 2 plan --set router.kind=expert_choice balance=loss_free_bias; hints "would act in inference alone"
expect 0 plan --set router.kind=expert_choice balance=load_balance_loss
expect 2 plan --set model.null_experts=96; hints "leave at least one"
expect 0 plan --set model.null_experts=48 model.experts_per_token=2 --json; json null_experts

small_text
run() { # NAME SETTING…
    local name=$1
    shift
    expect 0 train "${PICO[@]}" --data text --run "$name" --steps 4 --set train.eval_every=0 train.final_eval_tokens=512 \
        train.sample_tokens=4 "$@"
    expect 0 inspect "$name"; says "router"
    expect 0 generate --model "$name" --prompt "In the" --tokens 4 --kernels ref
    expect 0 eval --model "$name" --data text/plain/*.txt --limit 200 --json; json loss_nats_per_token
}
run groups router.kind=grouped model.experts_per_token=2
run deepseek router.kind=deepseek_v3 router.groups=4 router.groups_chosen=2 model.experts_per_token=2 balance=loss_free_bias
run capacity router.capacity_factor=1.25
run choice router.kind=expert_choice
run sinkhorn router.kind=sinkhorn
run hash router.kind=hash balance=none
run top_p router.kind=top_p model.experts_per_token=3

# Null experts: fewer weights, refused by GGUF, counted.
run null model.null_experts=4 model.experts_per_token=2 router.normalise=true
expect 0 inspect null; says "of them null    4"
expect 0 inspect null --json; json null_experts total_parameters
expect 3 quantize --model null --type q8_0 --out null.gguf; hints "model folder"
[ ! -e null.gguf ] || fail "a refused conversion left a file"
expect 0 stats --model null --data text/plain/*.txt --limit 300 --json; json layers.0.experts_computed_per_token
python3 - "$out" <<'PY' || fail "the computed experts are not what the load says"
import json, sys
for layer in json.load(open(sys.argv[1]))["layers"]:
    load, computed = layer["load"], layer["experts_computed_per_token"]
    assert abs(computed - sum(load[:4]) / layer["tokens"]) < 1e-9 and 0 < computed < 2, (load, computed)
PY
# They have no load to even out: balance is that of the others, of a model, of a trace, in a run's summary and its last table.
cp "$out" model.json
expect 0 trace --model null --data text/plain/*.txt --limit 300 --out null.trace
expect 0 stats null.trace --json; cp "$out" trace.json
python3 - model.json trace.json null/summary.json <<'PY' || fail "null experts are counted in"
import json, sys
for path in sys.argv[1:]:
    for layer in json.load(open(path))["layers"]:
        load = layer["load"][:4]
        assert len(layer["load"]) == 8 and abs(layer["max_violation"] - (max(load) * 4 / sum(load) - 1)) < 1e-9, (path, layer)
        assert layer["dead_experts"] == sum(n < 0.01 * sum(load) / 4 for n in load), (path, layer)
PY
expect 0 stats null.trace; says "8 experts a layer, 4 of them null, on"; says "of the 4 other experts"; says "correlation  computed"
expect 0 stats --model null --data text/plain/*.txt --limit 300; says "8 experts a layer, 4 of them null, on"; says "correlation  computed"
expect 0 stats --model hash --data text/plain/*.txt --limit 300; [ "$(grep -c computed "$out")" = 0 ] || fail "a column that only says K"
expect 0 train "${PICO[@]}" --data text --run table --steps 2 --set model.null_experts=4 model.experts_per_token=2
says "without the 4 null experts"; says "of 8 experts"
# An expert that drops does nothing for what it dropped: placed and replayed is what was computed.
expect 0 train "${PICO[@]}" --data text --run drops --steps 2 --set train.trace_every=2 router.capacity_factor=1
expect 0 stats drops/traces/step-000002.trace --json; cp "$out" drops.json
python3 - drops.json <<'PY' || fail "nothing was dropped, or it was counted as computed"
import json, sys
for layer in json.load(open(sys.argv[1]))["layers"]:
    computed = sum(layer["computed_load"])
    assert 0 < computed < sum(layer["load"]) and abs(layer["experts_computed_per_token"] * layer["tokens"] - computed) < 1e-6
json.dump([layer["computed_load"] for layer in json.load(open(sys.argv[1]))["layers"]], open("computed.json", "w"))
PY
# So is the imbalance between devices: of 2, with 4 neighbouring experts each.
expect 0 stats drops/traces/step-000002.trace --groups 2 --json
python3 - "$out" <<'PY' || fail "devices work for what was dropped"
import json, sys
for layer in json.load(open(sys.argv[1]))["layers"]:
    halves = sum(layer["computed_load"][:4]), sum(layer["computed_load"][4:])
    assert abs(layer["imbalance_score"] - abs(halves[0] - halves[1]) / layer["tokens"]) < 1e-12
PY
plan() { expect 0 place --load "$1" --slots 10 --gpus 2 --json; field layer_mean_over_max_per_gpu; }
[ "$(plan drops/traces/step-000002.trace)" = "$(plan computed.json)" ] || fail "place counts what was dropped"
[ "$(plan drops.json)" = "$(plan computed.json)" ] || fail "place counts what was dropped in stats"

# Another number of experts would send tokens elsewhere where they are hashed, and regroup experts where they form groups.
for name in hash groups; do
    expect 3 prune --model "$name" --keep 4 --data text/plain/*.txt --out fewer; hints "would send tokens to other experts"
    expect 3 grow --model "$name" --add 4 --out more; hints "would send tokens to other experts"
done
