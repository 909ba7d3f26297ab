# A refused or interrupted init leaves nothing behind, nor does it take what was there.
small_text
expect 0 tokenizer train --data text/plain/*.txt --vocabulary 300 --out big
expect 2 init --preset pico --tokenizer big --out new; hints "has 300 tokens"; hints "model.vocabulary"
[ ! -e new ] || fail "a tokenizer that does not fit left $(ls -d new/*)"
printf 'no JSON' >broken.json
expect 3 init --preset pico --tokenizer broken.json --out a/b/new
[ ! -e a ] || fail "a tokenizer that cannot be read left $(find a)"
expect 3 init --preset pico --tokenizer nowhere.json --out new; [ ! -e new ] || fail "a missing tokenizer left a folder"
expect 0 init --preset pico --set model.vocabulary=300 --tokenizer big --out new
expect 0 generate --model new --prompt x --tokens 2
# A limit on the size of files stops it in the middle: folders that it made go, others stay.
mkdir there
for folder in a/b there; do
    (ulimit -f 40; expect 1 init --preset pico --out $folder); hints "hint: "
done
[ ! -e a ] || fail "a failed init left $(find a)"
[ -d there ] && [ -z "$(ls -A there)" ] || fail "a failed init left $(ls -A there)"
# A tokenizer's folder too.
(ulimit -f 1; expect 1 tokenizer train --data text/plain/*.txt --vocabulary 300 --out tk)
[ ! -e tk ] || fail "a failed tokenizer train left $(find tk)"
# So does Ctrl-C.
for folder in c/d there; do
    "$SIGMOE" init --preset micro --out $folder >log 2>&1 &
    child=$!
    for i in $(seq 1 300); do [ -n "$(ls -A $folder $folder.part 2>/dev/null | grep safetensors)" ] && break; sleep 0.02; done
    kill -INT $child 2>/dev/null || true
    code=0; wait $child || code=$?
    if [ $code -eq 130 ]; then
        grep -q "nothing is left behind" log || fail "an interrupted init says: $(cat log)"
        [ ! -e c ] && [ -z "$(ls -A there)" ] || fail "an interrupted init left $(find c there)"
    else
        [ $code -eq 0 ] || fail "an interrupted init: exit $code: $(cat log)" # so fast that it had finished
    fi
    rm -rf c there/*
done
# Killed, it has not taken the model's name: the same command begins again, and nothing of before stays.
"$SIGMOE" init --preset micro --out killed >log 2>&1 &
child=$!
for i in $(seq 1 300); do [ -n "$(ls -A killed.part 2>/dev/null | grep safetensors)" ] && break; sleep 0.02; done
kill -KILL $child 2>/dev/null || true
code=0; wait $child 2>/dev/null || code=$?
[ $code -eq 0 ] || [ ! -e killed ] || fail "a killed init has left a model: $(ls killed)"
rm -rf killed
expect 0 init --preset pico --out killed; expect 0 inspect killed
[ ! -e killed.part ] && [ ! -e killed/.unfinished ] || fail "a work folder is left: $(ls -A killed killed.part)"
# A folder of somebody who likes that name, a finished run even, is no unfinished work.
mkdir own.part; echo mine >own.part/run.sqlite; : >own.part/.lock
expect 2 init --preset pico --out own; hints "own.part is in the way"
[ "$(cat own.part/run.sqlite)" = mine ] && [ ! -e own ] || fail "it took $(ls -A own.part own)"
# Names that cannot be longer, and paths that end in no name.
long=$(printf 'n%.0s' $(seq 1 252))
mkdir place
for name in $long place/new/. place/new/.. place/slash/; do
    expect 0 init --preset pico --out $name; expect 0 inspect $name; rm -rf $long place/* place/.[a-z]*
done
ln -s nowhere place/link
expect 2 init --preset pico --out place/link; hints "exists and is no folder"
[ "$(ls -A place)" = link ] || fail "it left $(ls -A place)"
