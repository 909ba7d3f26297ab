# One page, nothing fetched, no script.
small_run r 8 --set train.eval_every=4
[ -s r/report.html ] || fail "training left no report"
# A run that is finished is one file for its rows, also after somebody read it.
rows_alone() { [ "$(echo r/run.sqlite*)" = r/run.sqlite ] || fail "$1 left $(ls r/run.sqlite*)"; }
rows_alone training
expect 0 report r --out page.html; says "page.html"
rows_alone "a report"
for part in "<svg" "Held-out text by domain" "Load of every expert" "Dead experts" "Learning rate" "Configuration" "--steps"; do
    grep -qF -- "$part" page.html || fail "the page lacks $part"
done
grep -qiE '<script|https?://|@import|url\(|src=|<link' page.html && fail "the page fetches or runs something"
expect 0 report r/; says "r/report.html"; grep -q // "$out" && fail "a double slash"
# Only a page is replaced: no database, no device.
before=$(sha256sum <r/run.sqlite)
expect 2 report r --out r/run.sqlite; hints "hint: "
[ "$before" = "$(sha256sum <r/run.sqlite)" ] || fail "the report replaced run.sqlite"
mkfifo pipe.html
expect 2 report r --out pipe.html; hints "hint: "
[ -p pipe.html ] || fail "the report replaced a pipe"
expect 3 report nowhere; expect 3 report text
cp -r r s; printf 'this is no database, it is a sentence that goes on for a while' >s/run.sqlite
rm -f s/run.sqlite-*
expect 3 report s --out s.html
