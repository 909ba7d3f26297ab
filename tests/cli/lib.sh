# SPDX-License-Identifier: Apache-2.0
# Helpers of the program's tests. $out and $err are files with the last command's output.
trap 'echo "stopped at: $BASH_COMMAND"' ERR
out=$PWD/.out err=$PWD/.err

fail() {
    echo "FAILED: $*"
    echo "--- standard output"; tail -n 30 "$out" 2>/dev/null
    echo "--- standard error"; tail -n 30 "$err" 2>/dev/null
    exit 1
}
skip() { echo "$*"; exit 77; }

# expect CODE ARGUMENTS…: run sigmoe, check how it ends. A crash (128 and more) is never expected but for 130.
expect() {
    local want=$1 code=0
    shift
    "$SIGMOE" "$@" >"$out" 2>"$err" </dev/null || code=$?
    [ $code -eq "$want" ] || fail "sigmoe $* ended with $code, not $want"
    # Errors have the promised form: "error: …" first, then perhaps "hint: …".
    if [ "$want" -ne 0 ] && [ "$want" -ne 130 ]; then
        grep -q '^error: ' "$err" || fail "sigmoe $*: no line \"error: …\""
    fi
}
# says GLOB / hints GLOB: the output, or the error output, matches *GLOB*.
says() { [[ "$(tr -d '\0' <"$out")" == *$1* ]] || fail "standard output lacks: $1"; }
hints() { [[ "$(cat "$err")" == *$1* ]] || fail "standard error lacks: $1"; }

# json FIELD…: standard output is one JSON value, and (an object) has these fields.
json() {
    python3 - "$out" "$@" <<'PY' || fail "not the JSON that was promised: $*"
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))
for field in sys.argv[2:]:
    at = value
    for part in field.split("."):
        at = at[int(part)] if part.isdigit() else at[part]
PY
}
# field NAME: print a field of the JSON on standard output.
field() { python3 -c 'import json,sys; v=json.load(open(sys.argv[1]))
for p in sys.argv[2].split("."): v=v[int(p)] if p.isdigit() else v[p]
print(v)' "$out" "$1"; }

# flip FILE OFFSET: invert every bit of one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "$(printf '\\%03o' $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
size() { stat -c %s "$1"; }
cut_short() { truncate -s $(($(size "$1") / 2)) "$1"; }

# A little text of two domains, enough for the pico preset, and a run on it.
small_text() {
    mkdir -p text/plain text/other
    for part in prose code; do
        local to=text/plain
        [ $part = code ] && to=text/other
        find "$TOP/data/corpus/$part" -type f | sort | head -n 3 | while read -r file; do
            for piece in 1 2 3 4; do
                tail -c +$((piece * 6000)) "$file" | head -c 6000 >"$to/$(basename "$file").$piece.txt"
            done
        done
    done
}
PICO=(--preset pico --threads 1 --kernels ref)
small_run() { # RUN STEPS MORE…
    local run=$1 steps=$2
    shift 2
    [ -d text ] || small_text
    expect 0 train "${PICO[@]}" --data text --run "$run" --steps "$steps" --set train.eval_every=0 train.eval_tokens=1024 \
        train.final_eval_tokens=1024 train.sample_tokens=8 "$@"
}
# All files of two checkpoints are the same bytes.
same_folder() { diff -rq "$1" "$2" >.diff 2>&1 || fail "$1 and $2 differ: $(cat .diff)"; }
