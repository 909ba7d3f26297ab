# Text that is missing, empty, binary or not UTF-8.
expect 3 data build --data nowhere --out c; hints "nowhere"
: >empty.txt
expect 3 data build --data empty.txt --out c; hints "empty"
expect 3 train "${PICO[@]}" --data empty.txt --run r; hints "empty"
expect 3 train "${PICO[@]}" --data nowhere --run r; hints "nowhere"
head -c 20000 /dev/zero >zero.bin
expect 3 data build --data zero.bin --out c; hints "binary"
[ ! -e c ] && [ ! -e r ] || fail "a folder was left behind"
# Bytes that are not UTF-8 are legal and come back as they were.
small_text
for i in $(seq 1 40); do printf 'caf\351 %d \377\376 na\357ve %d\n' $i $((i * i)); done >text/latin.txt
expect 0 data build --data text --vocabulary 300 --heldout-share 0 --keep-duplicates --out c --json
json path hash bytes tokens domains.0.train.documents
expect 0 data text c --split train --domain latin
cmp "$out" text/latin.txt || fail "the text did not come back"
expect 2 data build --data text --out c; hints "c"
expect 2 data build --data text --out text/c; hints "outside"; [ ! -e text/c ] || fail "a data folder among its text"
expect 2 data build --data . --out c4/; hints "outside"
mkdir texts; expect 0 data build --data text --vocabulary 257 --out texts/c # a name that only begins alike
expect 2 data text c --domain nothing; hints "data info"
expect 2 data text c --split both
expect 0 data info c; says "latin"
# Fifty sayings in one file: the line that parts them is the one that was named, and <|endoftext|> where none is.
for i in $(seq 1 50); do printf 'Saying %d of fifty.\n%%\n' "$i"; done >sayings.txt
printf '<|endoftext|>\nOne more.\n' >>sayings.txt
expect 0 data build --data sayings.txt --separator % --vocabulary 257 --heldout-share 0 --out parted --json
[ "$(field domains.0.train.documents)" = 51 ] || fail "--separator did not part the sayings"
expect 0 data text parted --split train; says "One more."; says "<|endoftext|>"
expect 0 data build --data sayings.txt --vocabulary 257 --heldout-share 0 --out whole --json
[ "$(field domains.0.train.documents)" = 2 ] || fail "<|endoftext|> did not part the file"
printf '' >recipe.yaml
expect 2 data build --recipe recipe.yaml --separator % --out c2; hints "--separator"
expect 0 data build --help; says "<|endoftext|>"
