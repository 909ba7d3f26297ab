# An error names the file, and its hint leads to what was meant.
expect 2 plan --set optimizer.lr=1; hints "did you mean optimizer.learning_rate?"
expect 2 plan --set optimizer.wd=1; hints "did you mean optimizer.weight_decay?"
expect 2 plan --set train.layers=1; hints "did you mean model.layers?"
expect 2 list foo; hints "names the registries"
printf 'balance: {kind: z_loss}\n' >c.yaml; expect 2 plan --config c.yaml; hints "balance is a list"; hints "- kind: KIND"
printf 'model:\n  layers: 2\n  w\0idth: 3\n' >c.yaml; expect 2 plan --config c.yaml; hints "c.yaml:3"; hints "remove that byte"
for text in 'sparsity: {k: [[1]]}' 'balance: [[z_loss]]' 'a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: 1}}}}}}}}}}'; do
    printf '%s\n' "$text" >c.yaml; expect 2 plan --config c.yaml; hints "c.yaml"; hints "hint: "
done
expect 2 plan --set model.layers=99999999999999999999; hints "out of range"
expect 2 generate --model m --tokens 99999999999999999999; hints "out of range"
# Limits of whole numbers are written as one would write them.
expect 2 plan --set train.steps=0; hints "from 1 to 1000000000000"
expect 2 lab run sigma --steps 0; hints "1 to 1000000000000"
expect 0 plan --preset nano --set data.tokens_per_step=8192 model.vocabulary=8k --json; [ "$(field vocabulary)" = 8000 ] || fail 8k
# Tokenizers.
bad() { printf '%s' "$1" >t.json; expect 3 tokenizer info t.json; hints "t.json"; hints "hint: "; }
bad '{"model":{"type":"BPE","vocab":{},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}'
bad 'null'
python3 - "$TOP" <<'PY'
import json
def write(name, change):
    value = json.load(open("bytes/tokenizer.json"))
    change(value)
    json.dump(value, open(name, "w"))
import subprocess, os
subprocess.run([os.environ["SIGMOE"], "init", "--preset", "pico", "--out", "bytes"], check=True, stdout=subprocess.DEVNULL)
def twice(value):
    names = list(value["model"]["vocab"])
    value["model"]["vocab"][names[1]] = value["model"]["vocab"][names[0]]
write("twice.json", twice)
PY
expect 3 tokenizer info twice.json; hints "twice.json: two tokens have the id"; hints "hint: "
# Rules for experts.
expect 3 quantize --model bytes --expert-type nofile --out x.gguf; hints "nofile"; hints "no such file"; hints "LAYER:EXPERT"
expect 2 quantize --model bytes --expert-type 0:0 --out x.gguf; hints "LAYER:EXPERT"
# A GGUF file has no folder to put a tokenizer into.
expect 0 init --preset pico --set model.vocabulary=280 --out bare.gguf
expect 2 generate --model bare.gguf --prompt x; hints "quantize --tokenizer"
expect 2 eval --model bare.gguf --data "$LIB"; hints "quantize --tokenizer"
# Token ids.
expect 2 generate --model bare.gguf --prompt-ids 280; hints "no token of this model"; [ ! -s "$out" ] || fail "text before an error"
expect 2 generate --model bytes --prompt-ids 257; hints "no token of this model"; [ ! -s "$out" ] || fail "text before an error"
for ids in 1,,2 ,1 1, 1x -1 ''; do expect 2 generate --model bare.gguf --prompt-ids "$ids"; hints "hint: "; done
for ids in 1,2 '1 2' '[1, 2]'; do expect 0 generate --model bare.gguf --prompt-ids "$ids" --tokens 1 --json; [ "$(field prompt_tokens)" = 2 ] || fail "$ids"; done
