# The same kind of fault has the same code: 3 for an input, 2 for the name of an output, 1 for what cannot be made.
small_text
expect 0 init --preset pico --out m
printf ' \n\n  \n' >blank.txt
: >empty.txt
for data in blank.txt empty.txt nowhere.txt; do
    expect 3 eval --model m --data $data; hints "$data"; hints "hint: "
    expect 3 data build --data $data --out d; hints "$data"; hints "hint: "
    expect 3 train "${PICO[@]}" --data $data --run r; hints "$data"; hints "hint: "
done
expect 3 plan --config nowhere.yaml
expect 3 plan --config text
expect 1 quantize --model m --out no/such/folder.gguf; hints "make the folder first"
expect 1 init --preset pico --out no/such/folder.gguf; hints "make the folder first"
expect 2 quantize --model m --out text; hints "it is a folder"
[ ! -e d ] && [ ! -e r ] && [ ! -e no ] || fail "something was left behind"
# Only a .gguf file can hold other types: asked of a folder they are refused, not put into a file without an ending.
expect 2 init --preset pico --type f16 --out other; hints ".gguf"
expect 2 init --preset pico --arch sigmoe --out other; hints "--arch"; hints ".gguf"
expect 2 init --preset pico --expert-type 0:0=f16 --out other; hints "--expert-type"
[ ! -e other ] || fail "a file without an ending was made"
# What --model names is no model: what it is instead.
: >none.gguf; printf 'this is text' >text.gguf; ln -s loop loop; mkfifo pipe
expect 3 inspect none.gguf; hints "it is empty"
expect 3 inspect text.gguf; hints "does not begin with GGUF"
expect 3 inspect blank.txt; hints "neither a GGUF file nor a model folder"
expect 3 inspect pipe; hints "neither a file nor a folder"
expect 3 inspect loop; hints "the links in it"
expect 3 train --resume nope; hints "there is no run folder nope"
expect 3 report nope; hints "there is no run folder nope"
# What this user may not read is an input as much as one that is missing; what they may not make is an output. Root may do
# anything: without that, where it can be laid down.
may_not_read() {
    local all=()
    if [ "$(id -u)" -eq 0 ]; then
        all=(setpriv --bounding-set=-dac_override,-dac_read_search)
        "${all[@]}" true 2>/dev/null || return 0
    fi
    printf '#!/bin/sh\nexec %s "$@"\n' "${all[*]} $SIGMOE" >user
    chmod +x user
    cp text/plain/"$(ls text/plain | head -n 1)" shut.txt
    cp -r text shut
    cp -r m shut_model
    cp m/config.json shut.json
    "$SIGMOE" quantize --model m --type q8_0 --out shut.gguf >/dev/null
    mkdir closed
    chmod 000 shut.txt shut shut_model shut.json shut.gguf
    chmod 555 closed
    local SIGMOE=$PWD/user
    for input in "eval --model m --data shut.txt" "eval --model m --data shut" "data build --data shut.txt --out d" \
        "data build --data shut --out d" "inspect shut.gguf" "inspect shut_model" \
        "generate --model shut.gguf --prompt a" \
        "train --preset pico --data shut.txt --run r" "plan --config shut.json" "place --load shut.json --slots 4 --gpus 2"; do
        expect 3 $input
        hints "shut"; hints "permission"
    done
    expect 1 init --preset pico --out closed/m.gguf; hints "closed"
    expect 1 quantize --model m --type q8_0 --out closed/m.gguf; hints "closed"
    chmod 700 shut shut_model closed
    [ ! -e d ] && [ ! -e r ] && [ -z "$(ls closed)" ] || fail "something was left behind"
}
may_not_read
