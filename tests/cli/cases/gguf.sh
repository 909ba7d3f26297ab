# GGUF: written from a run, opened wherever a model is named, types chosen and said, wrong rules and files refused.
small_run r 6
expect 0 generate --model r --prompt "The " --tokens 12 --temperature 0 --json; field token_ids >.folder
expect 0 quantize --model r --type f32 --out f32.gguf; says "architecture qwen3moe"
expect 0 generate --model f32.gguf --prompt "The " --tokens 12 --temperature 0 --json; field token_ids >.file
cmp .folder .file || fail "a file in f32 gives other tokens than its run"
expect 0 eval --model f32.gguf --data text/plain/*.1.txt --json; field bits_per_byte >.file
expect 0 eval --model r --data text/plain/*.1.txt --json; field bits_per_byte >.folder
cmp .folder .file || fail "a file in f32 gives other bits per byte than its run"
expect 0 quantize --model r --type q4_0 --out q.gguf --json; json path architecture tensors bytes type notes seconds
expect 0 eval --model q.gguf --data text/plain/*.1.txt --json; json bits_per_byte
expect 0 inspect q.gguf; says "as q4_0"; says "ffn_gate_inp"; says "tokenizer         yes"
expect 0 inspect q.gguf --json; json tensors.0.kind tensors.0.type dtype bytes; [ "$(field dtype)" = q4_0 ] || fail "dtype"
# A file is a source too; what has its type already is copied.
expect 0 quantize --model q.gguf --type q4_0 --out again.gguf
cmp q.gguf again.gguf || fail "a file that is converted to its own type changes"
# New models: qwen3moe where it says what the model is; fallbacks are said.
expect 0 init --preset pico --type q4_k --out new.gguf; says "q5_0 instead of q4_k"; says "architecture qwen3moe"
expect 0 generate --model new.gguf --prompt "x" --tokens 3
expect 0 init --preset pico --out folder --json; expect 0 init --preset pico --out file.gguf
expect 0 quantize --model folder --type f32 --tokenizer folder --out same.gguf
cmp file.gguf same.gguf || fail "init gives a file other weights than a folder"
# Rules.
printf '# the first half\n0:0-3=q8_0\n1:*=f16\n' >rules
expect 0 quantize --model folder --type q4_0 --tensor-type token_embd=f16 --expert-type rules --out mixed.gguf
says "architecture sigmoe"
expect 0 inspect mixed.gguf; says "ffn_down_exps    q8_0"; says "ffn_down_exps    f16"
# A file of rules may be indented and among many words.
printf '# the same\n  0:0-3=q8_0 # first\n\n\t1:*=f16\n' >rules
expect 0 quantize --model folder --type q4_0 --tensor-type token_embd=f16 --expert-type rules --out again.gguf
cmp mixed.gguf again.gguf || fail "an indented rule is not obeyed"
expect 0 quantize --model folder --type q4_0 --tensor-type token_embd=f16 --expert-type rules $(yes 1:0=f16 | head -n 5000) --out again.gguf
cmp mixed.gguf again.gguf || fail "rules after a file's are not obeyed"
expect 2 quantize --model folder --tensor-type ffn_dwon_exps=f16 --out x.gguf; hints "matches no tensor"; hints "ffn_down_exps"
expect 2 quantize --model folder --expert-type 9:0=f16 --out x.gguf; hints "names no experts"
expect 2 quantize --model folder --type q9 --out x.gguf; hints "q4_k"
expect 2 quantize --model folder --expert-type 0:0=f16 --arch qwen3moe --out x.gguf; hints "architecture sigmoe"
# Damage.
cut_short q.gguf
expect 3 inspect q.gguf; hints "truncated"
expect 3 generate --model q.gguf --prompt x
printf 'GGUF' >short.gguf; expect 3 inspect short.gguf
[ ! -e x.gguf ] || fail "a refused conversion left a file"
# Nothing that matters is replaced: the model itself, under another name too, what is no GGUF file, a file by random weights.
cp f32.gguf kept.gguf && ln kept.gguf other.gguf
expect 2 quantize --model kept.gguf --type q4_0 --out kept.gguf; hints "the model itself"
expect 2 quantize --model kept.gguf --type q4_0 --out other.gguf; hints "the model itself"
expect 2 quantize --model folder --type q4_0 --out folder/model.safetensors; hints "no GGUF file"
expect 2 init --preset pico --out kept.gguf; hints "exists"
cmp f32.gguf kept.gguf || fail "a refused conversion changed its model"
expect 0 quantize --model folder --type q8_0 --out same.gguf
expect 2 quantize --model folder --tensor-type =q8_0 --out x.gguf; hints "nothing before"
# Interrupted, a conversion leaves nothing behind.
mkdir stopped
"$SIGMOE" init --preset micro --type q4_k --out stopped/big.gguf >log 2>&1 &
child=$!
for i in $(seq 1 300); do [ -n "$(ls stopped)" ] && break; sleep 0.02; done
kill -INT $child 2>/dev/null || true
code=0; wait $child || code=$?
if [ $code -eq 130 ]; then
    [ -z "$(ls stopped)" ] || fail "an interrupted conversion left $(ls stopped)"
else
    [ $code -eq 0 ] || fail "an interrupted conversion: exit $code: $(cat log)" # so fast that it had finished
fi
rm -rf stopped
