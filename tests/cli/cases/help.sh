# Every command explains itself with an example; the exit codes of asking for help.
expect 0 --help; says "usage: sigmoe COMMAND"
expect 0 --version; says "sigmoe 0."
for verb in "tokenizer train" "tokenizer encode" "tokenizer decode" "tokenizer info" "data build" "data fetch" "data info" \
    "data text" init train generate eval bench inspect stats trace replay report quantize prune grow place list plan doctor; do
    expect 0 $verb --help; says "usage: sigmoe $verb"; says "example:"
    cp "$out" direct
    expect 0 help $verb
    cmp -s "$out" direct || fail "help $verb and $verb --help differ"
done
expect 0 tokenizer --help; says "tokenizer encode"
# The overview lists exactly the commands that exist.
expect 0 help
while read -r line; do
    set -- $line
    case "$1" in tokenizer | data) expect 0 "$1" "$2" --help ;; help | --version) ;; *) expect 0 "$1" --help ;; esac
done < <("$SIGMOE" help | grep -E '^  [a-z-]')
code=0; "$SIGMOE" >"$out" 2>"$err" || code=$?
[ $code -eq 2 ] || fail "no command at all: $code"
