# What a file or the command line says reaches a terminal without control characters.
clean() { ! LC_ALL=C grep -q $'[\001-\010\013-\037\177]' "$out" "$err" || fail "control characters: $(cat -v "$out" "$err")"; }
expect 0 init --preset pico --out m; expect 0 init --preset pico --out m.gguf
# A tensor's name and an architecture with an escape in them, of the same length.
python3 - <<'PY'
data = open("m.gguf", "rb").read()
def change(old, new, name):
    assert len(old) == len(new) and old in data
    open(name, "wb").write(data.replace(old, new))
change(b"blk.1.ffn_norm.weight", b"blk.1.f\x1b]0_orm.weight", "name.gguf")
change(b"qwen3moe", b"qw\x1b[31mo", "arch.gguf")
PY
expect 0 inspect name.gguf; clean; says "f?]0_orm"
expect 3 generate --model name.gguf --prompt x; clean
expect 3 inspect arch.gguf; clean; hints "?[31"
expect 3 inspect $'no\033[31mwhere'; clean; hints "no?[31mwhere"
expect 2 plan --set $'a\r\nb=1'; clean; hints "a??b"
expect 2 $'tra\033cin'; clean
expect 3 inspect $'caf\303\251 \302\233 \377'; hints $'caf\303\251 ?? ?'
cp m.gguf $'x\033[31m.gguf'; expect 0 inspect $'x\033[31m.gguf'; clean
# One line an error, with the whole word in it.
expect 3 tokenizer decode --tokenizer m --ids $'1 abc\ndef'; hints '"abc"'
expect 3 tokenizer decode --tokenizer m --ids abcdefghijklmnopqrstuvwxyz; hints '"abcdefghijklmnopqrstuvwxyz"'
[ "$(grep -c . "$err")" -eq 2 ] || fail "an error of more than two lines"
