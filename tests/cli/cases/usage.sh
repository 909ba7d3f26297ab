# What is missing, malformed or contradictory: exit 2 before anything is touched.
expect 2 train --run r; hints "--data is missing"
expect 2 train --data "$TOP/data/corpus"; hints "--run is missing"
expect 2 generate; hints "--model M is missing"
expect 2 generate --model x --tokens many; hints "is not a whole number"
for number in 0x10 " 1" nan 1e999; do expect 2 generate --model x --temperature "$number"; hints "is not a number"; done
expect 2 generate --model x --tokens -5; hints "out of range"
expect 2 generate --model x --top-p 1.5; hints "out of range"
expect 2 generate --model x --top-p 0; hints "out of range"
expect 2 generate --model; hints "needs a value"
expect 2 generate --model a --model b; hints "given twice"; hints "hint: "
expect 2 generate --json=1 --model x; hints "takes no value"; hints "hint: "
expect 2 train --data "$LIB" --run --; hints "needs a value"
expect 2 inspect; hints "MODEL is missing"
expect 2 inspect a b; hints "it is not clear"
expect 2 inspect -j; hints "two dashes"
expect 2 train --resume r --seed 3; hints "cannot be combined with --resume"
expect 2 plan --set layers; hints "KEY=VALUE"
expect 2 generate --model x --prompt a --prompt-ids 1; hints "give one of"; hints "hint: "
expect 2 data build --out x; hints "either --data or --recipe"
# A flag takes what the library takes.
expect 2 data build --data "$LIB" --out x --heldout-share 0.6; hints "data build --heldout-share: 0.6 is out of range"
expect 2 data build --data "$LIB" --out x --vocabulary 1048577; hints "--vocabulary: 1048577 is out of range"
expect 2 train --data "$LIB" --run r --seed 9000000000000001; hints "train --seed: 9000000000000001 is out of range"
expect 2 train --data "$LIB" --run r --threads 4097; hints "train --threads: 4097 is out of range"
expect 2 train --data "$LIB" --run r --threads 4096 --seed 9000000000000000 --set nothing=1; hints "nothing"
# Names that are empty, and two answers to one question.
expect 2 train --data "$LIB" --run ""; hints "--run is given an empty RUN"
expect 2 train --data "" --run r; hints "--data is given an empty PATH"
expect 2 generate --model=; hints "--model is given an empty M"
expect 2 train --data "$LIB" --run r --set data.folder=elsewhere; hints "both name what to train on"
# A folder where a file belongs, and the other way round.
expect 3 plan --config .; hints "it is a folder"; hints "give a text file"
expect 3 plan --config "$LIB/x"; hints "not a folder"
# Both ways of writing a value, numbers with a suffix.
expect 0 plan --preset=pico --tokens=10k --json; json training_flops
[ -z "$(ls)" ] || fail "files were left behind: $(ls)"
