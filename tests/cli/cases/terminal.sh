# On a terminal: a live block with load strips, narrow ones too; NO_COLOR keeps colour out of errors.
command -v script >/dev/null || skip "needs script(1) of bsdutils"
small_text
for width in 100 40; do
    script -qec "stty cols $width rows 24; '$SIGMOE' train ${PICO[*]} --data text --run w$width --steps 12" typescript >/dev/null </dev/null
    grep -q 'layer  0' typescript || fail "no load strip at $width columns"
    grep -q $'\033\\[[0-9]*A' typescript || fail "the block is not redrawn at $width columns"
done
script -qec "'$SIGMOE' nonsense" typescript >/dev/null </dev/null || true
grep -q $'\033\\[31' typescript || fail "no colour on a terminal"
NO_COLOR=1 script -qec "'$SIGMOE' nonsense" typescript >/dev/null </dev/null || true
grep -q $'\033\\[31' typescript && fail "colour in spite of NO_COLOR"
true
