# Damaged checkpoints: what reads them says so; resuming falls back to the last one that verifies.
small_run a 20 --checkpoint-every 10
last=a/checkpoints/step-000020
[ -d $last ] || fail "no checkpoint: $(ls a/checkpoints)"
weights=$last/model.safetensors
cp -r $last m
cut_short m/model.safetensors
expect 3 inspect m; hints "model.safetensors"
expect 3 generate --model m --prompt x; hints "model.safetensors"
rm -r m; cp -r $last m
flip m/model.safetensors 3
expect 3 inspect m
rm -r m; cp -r $last m
echo '{' >m/config.json
expect 3 inspect m; hints "config.json"
rm -r m; cp -r $last m
cut_short m/tokenizer.json
expect 3 generate --model m --prompt x; hints "tokenizer.json"
expect 3 inspect nowhere
expect 3 eval --model nowhere --data text/plain/*.txt
# A flipped bit in the latest checkpoint: the one before is used, and the end is the same.
cp -r a b
flip b/checkpoints/step-000020/model.safetensors $(($(size $weights) - 9))
expect 0 train --resume b
same_folder $last b/checkpoints/step-000020
