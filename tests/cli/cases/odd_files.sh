# What is no plain file where one belongs: said at once, never waited for and never read without an end.
small_text
mkfifo pipe
quick() { timeout 20 "$SIGMOE" "$@" >"$out" 2>"$err" </dev/null; }
refused() { # CODE GLOB ARGUMENTS…
    local want=$1 text=$2 code=0
    shift 2
    quick "$@" || code=$?
    [ $code -eq "$want" ] || fail "sigmoe $* ended with $code, not $want"
    hints "$text"; hints "hint: "
}
refused 3 "not a regular file" plan --config pipe
refused 3 "neither a file nor a folder" train --data pipe --run r
refused 3 "neither a file nor a folder" eval --model m --data pipe
refused 3 "not a regular file" tokenizer encode --tokenizer pipe --text x
refused 3 "not a regular file" data build --recipe pipe --out o
# Texts: streams have an end that is known, files a size.
expect 0 tokenizer train --data text/plain/*.txt --vocabulary 300 --out t
refused 3 "neither a file nor a folder" tokenizer train --data pipe --out p
refused 3 "neither a file nor a folder" tokenizer train --data /dev/zero --out p
refused 3 "a folder" tokenizer train --data text --out p
refused 3 "a folder" tokenizer encode --tokenizer t text
[ ! -e p ] || fail "a folder was made"
truncate -s 8T sparse || skip "this file system holds no sparse files"
refused 1 "of memory" tokenizer train --data sparse --out p
refused 1 "of memory" tokenizer encode --tokenizer t sparse
echo "the house" | "$SIGMOE" tokenizer encode --tokenizer t /dev/stdin >"$out" || fail "a pipe as a file"
echo "the house" | "$SIGMOE" tokenizer encode --tokenizer t >.piped || fail "standard input"
cmp "$out" .piped || fail "a pipe gives other tokens"
refused 3 "from a pipe or a device" tokenizer encode --tokenizer t /dev/zero
# Two folders that would silently be one domain.
mkdir -p "two/a b" two/a_b
cp text/plain/*.1.txt "two/a b/"
cp text/other/*.1.txt two/a_b/
expect 2 data build --data two --out o; hints "would both be the domain a_b"
