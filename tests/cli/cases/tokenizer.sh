# Train, encode, decode; damaged files.
small_text
expect 0 tokenizer train --data text/plain/*.txt --vocabulary 400 --out t --json; json path vocabulary bytes seconds
[ "$(field vocabulary)" = 400 ] || fail "vocabulary"
# A tokenizer that is there stays: models may depend on it. An empty folder is as good as a new one.
cp t/tokenizer.json before
expect 2 tokenizer train --data text/plain/*.txt --vocabulary 300 --out t; hints "not empty"
cmp before t/tokenizer.json || fail "the tokenizer was replaced"
mkdir empty
expect 0 tokenizer train --data text/plain/*.txt --vocabulary 300 --out empty
expect 2 tokenizer train --data text/plain/*.txt --out before; hints "a file is in the way"
printf 'Grüße, 東京! \xff\xfe\ttab\r\n  twice  the   space\n\n' >any
head -c 5000 /dev/urandom >>any
expect 0 tokenizer encode --tokenizer t any; cp "$out" ids
expect 0 tokenizer decode --tokenizer t ids
cmp "$out" any || fail "the bytes did not come back"
expect 0 tokenizer encode --tokenizer t --text "the house" --json; json tokens bytes token_ids
expect 0 tokenizer decode --tokenizer t/tokenizer.json --ids "[72, 105]" --json; json tokens text
expect 0 tokenizer info t --json; json vocabulary end_of_text longest_token
expect 3 tokenizer decode --tokenizer t --ids "1 two"
expect 3 tokenizer info nowhere
cp -r t broken; cut_short broken/tokenizer.json
expect 3 tokenizer info broken; hints "tokenizer.json"
echo '{"model": {"type": "WordPiece"}}' >broken/tokenizer.json
expect 3 tokenizer info broken
echo 'not json' >broken/tokenizer.json
expect 3 tokenizer info broken
hints "broken/tokenizer.json: "; hints "hint: "
for added in '{"id": 300}' '[{"id": 300, "content": "", "special": true}]' '[{"id": 300}]'; do
    python3 - t/tokenizer.json "$added" >broken/tokenizer.json <<'PY'
import json, sys
whole = json.load(open(sys.argv[1], encoding="utf-8"))
whole["added_tokens"] = json.loads(sys.argv[2])
json.dump(whole, sys.stdout)
PY
    expect 3 tokenizer info broken; hints "broken/tokenizer.json: added_tokens"; hints "hint: "
done
# A flipped bit anywhere must never crash; where the file still parses it is another legal tokenizer.
for i in $(seq 1 40); do
    cp t/tokenizer.json broken/tokenizer.json
    flip broken/tokenizer.json $((i * $(size t/tokenizer.json) / 41))
    code=0; "$SIGMOE" tokenizer info broken >"$out" 2>"$err" || code=$?
    [ $code -eq 0 ] || [ $code -eq 3 ] || fail "flip $i: exit $code"
done
# Normalising may make a text longer than any first guess (U+0958 becomes two characters of three bytes each).
cp -r t nfc
sed -i 's/"normalizer": null/"normalizer": {"type": "NFC"}/' nfc/tokenizer.json
for i in $(seq 1 50); do printf '\xe0\xa5\x98'; done >grows
expect 0 tokenizer encode --tokenizer nfc grows --json; [ "$(field tokens)" -gt 158 ] || fail "it did not grow"
expect 0 tokenizer encode --tokenizer nfc grows; cp "$out" ids
expect 0 tokenizer decode --tokenizer nfc ids
[ "$(size "$out")" -eq 300 ] || fail "the normalised text has $(size "$out") bytes"
