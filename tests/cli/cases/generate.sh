# Same seed, same text; valid UTF-8 whatever the model writes; the prompt in three forms.
expect 0 init --preset pico --seed 3 --out m
expect 0 generate --model m --prompt "Hello" --tokens 60 --seed 7 --threads 1 --kernels ref; cp "$out" one
expect 0 generate --model m --prompt "Hello" --tokens 60 --seed 7 --threads 2 --kernels ref
cmp "$out" one || fail "two threads write another text"
iconv -f utf-8 -t utf-8 one >/dev/null || fail "not UTF-8"
says "Hello"
expect 0 generate --model m --prompt "Hello" --tokens 60 --seed 8; cmp -s "$out" one && fail "the seed does nothing"
printf Hello >p
expect 0 generate --model m --prompt-file p --tokens 8 --temperature 0 --json; cp "$out" a
expect 0 generate --model m --prompt-ids "72,101,108,108,111" --tokens 8 --temperature 0 --json
python3 -c 'import json; a,b=json.load(open("a")),json.load(open(".out")); assert a["token_ids"]==b["token_ids"] and a["prompt_tokens"]==b["prompt_tokens"]==5' \
    || fail "text and ids give different answers"
expect 0 generate --model m --tokens 0 --prompt x --json; json token_ids
[ "$(field tokens)" = 0 ] || fail "tokens"
expect 0 generate --model m --tokens 3; expect 0 generate --model m --prompt x --top-k 1 --tokens 5 --temperature 2
expect 2 generate --model m --prompt-ids 999 --tokens 3
expect 0 generate --model m --prompt x --tokens 100000 --ignore-end-of-text; hints "the context of 64 tokens is full"
# A prompt that cannot fit: said before any of it is written.
expect 2 generate --model m --prompt "$(printf 'x%.0s' $(seq 65))"; hints "the model's context holds 64"
[ ! -s "$out" ] || fail "the prompt was written"
rm m/tokenizer.json
expect 2 generate --model m --prompt x; hints "--prompt-ids"
expect 0 generate --model m --prompt-ids 1,2,3 --tokens 4
