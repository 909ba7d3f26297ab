# What becomes of the text that is named is said, and found again.
small_text
mkdir -p "named/a b"; cp text/plain/*.1.txt "named/a b/"
expect 0 data build --data named --out d --vocabulary 300 --heldout-share 0.2
expect 0 data text d --domain a_b
expect 2 data text d --domain "a b"; hints "did you mean a_b?"
expect 0 tokenizer train --data text/plain/*.txt --vocabulary 300 --out t
expect 2 data build --data named --tokenizer t --vocabulary 500 --out e; hints "its own number of tokens"
expect 3 data fetch --out f; hints "no data/recipe.yaml here"; hints "--recipe FILE"
[ ! -e e ] && [ ! -e f ] || fail "something was left behind"
many=$(($(nproc) + 1))
expect 0 train --preset pico --kernels ref --data text --run r --steps 1 --set train.threads=$many
hints "train.threads = $many is more than"
grep -q 'folder: ""  # --data text$' r/config.yaml || fail "config.yaml lacks its text: $(grep folder r/config.yaml)"
