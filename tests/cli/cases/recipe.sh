# A recipe: packages are fetched, checked, unpacked, stripped to text. apt-get is a stand-in that knows two small packages.
command -v dpkg-deb >/dev/null || skip "needs dpkg-deb"
package() { # NAME VERSION: build what is in root/ into shelf/NAME_VERSION_all.deb
    mkdir -p root/DEBIAN "root/usr/share/doc/$1" shelf
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n' \
        "$1" "$2" >root/DEBIAN/control
    echo "Copyright: nobody at all" >"root/usr/share/doc/$1/copyright"
    dpkg-deb --root-owner-group --build root "shelf/$1_$2_all.deb" >/dev/null
    rm -r root
}
mkdir -p root/usr/share/proverbs root/usr/share/pages
printf 'A stitch in time saves nine.\n%%\nMany hands make light work.\n%%\nStill waters run deep.\n' >root/usr/share/proverbs/first
printf 'Haste makes waste, said the patient man to his neighbour.\n' | gzip >root/usr/share/proverbs/second.gz
printf 'no text \0 here' >root/usr/share/proverbs/picture
ln -s /etc/passwd root/usr/share/proverbs/link
package proverbs 1.0-1
mkdir -p root/usr/share/pages
printf '<html><head><title>T</title><style>p {x: y}</style></head><body><p>Plain &amp; simple.</p></body></html>' \
    >root/usr/share/pages/one.html
printf '<p>Not asked for.</p>' >root/usr/share/pages/two.htm
mkdir -p root/usr/lib/inner
printf 'From the inside of an archive.\n' >root/usr/lib/inner/inside.txt
tar -C root/usr/lib -cf root/usr/share/pages/all.tar inner
package pages 2.0-1
mkdir bin
cat >bin/apt-get <<'APT'
#!/bin/sh
# apt-get -q download NAME[=VERSION]
name=${3%%=*} version=${3#*=}
[ "$version" != "$3" ] || version=
for deb in "$SHELF/${name}_"$version*.deb; do
    [ -f "$deb" ] || { echo "E: Version '$version' for '$name' was not found" >&2; exit 100; }
    cp "$deb" .
done
APT
chmod +x bin/apt-get
export SHELF=$PWD/shelf PATH=$PWD/bin:$PATH
sum=$(sha256sum shelf/proverbs_1.0-1_all.deb | cut -d ' ' -f 1)
cat >recipe.yaml <<YAML
- domain: sayings
  package: proverbs
  version: 1.0-1
  sha256: $sum
  licence: CC0-1.0
  split: "%"
  files: ["usr/share/proverbs/*"]
- domain: web
  package: pages
  version: 1.9-1
  sha256: $sum
  licence: MIT
  strip: html
  files: ["usr/share/pages/*.html"]
YAML
expect 0 data fetch --recipe recipe.yaml --out got --json
json path sources.0.domain sources.1.licence
drift="pages: version 2.0-1 instead of 1.9-1"
# warned TEXT: standard error has it as its one warning, and --json as the only one.
warned() {
    [ "$(grep -a '^warning: ' "$err")" = "warning: $1" ] || fail "not the one warning: $1"
    [ "$(field warnings)" = "['$1']" ] || fail "not in --json: $1"
}
warned "$drift"
expect 0 data fetch --recipe recipe.yaml --out again; says "sayings"; says "(CC0-1.0)"
sayings=got/corpus/sayings/proverbs.txt
[ "$(grep -c '^<|endoftext|>$' $sayings)" -eq 3 ] || fail "four documents: $(cat $sayings)"
for text in "A stitch in time" "Still waters" "Haste makes waste"; do grep -q "$text" $sayings || fail "lacks $text"; done
grep -qE 'root:|no text' $sayings && fail "a link or a binary was taken"
grep -q 'Plain & simple.' got/corpus/web/pages.txt || fail "HTML: $(cat got/corpus/web/pages.txt)"
grep -qE '<p>|Not asked|x: y' got/corpus/web/pages.txt && fail "markup was left: $(cat got/corpus/web/pages.txt)"
[ "$(head -n 1 got/licences/proverbs.txt)" = CC0-1.0 ] || fail "the licence's name comes first"
grep -q 'nobody at all' got/licences/proverbs.txt || fail "the licence's text is missing"
# The version of the second package has moved: taken, and on record.
python3 - <<'PY' || fail "recipe.json: $(cat got/recipe.json)"
import json
record = json.load(open("got/recipe.json"))
one, two = record["packages"]
assert (one["version"], one["files"], one["documents"]) == ("1.0-1", 2, 4), one
assert two["version"] == "2.0-1", two
assert len(record["warnings"]) == 1 and "2.0-1 instead of 1.9-1" in record["warnings"][0], record["warnings"]
PY
[ -z "$(ls -d ./*.fetching 2>/dev/null)" ] || fail "the working folder was left behind"
diff -r got again >.diff || fail "fetched twice, two results: $(cat .diff)"
expect 2 data fetch --recipe recipe.yaml --out got; hints "empty folder"

# An archive in a package, and a program of one.
cat >inner.yaml <<YAML
- domain: docs
  package: pages
  version: 2.0-1
  sha256: $(sha256sum shelf/pages_2.0-1_all.deb | cut -d ' ' -f 1)
  licence: MIT
  archive: usr/share/pages/all.tar
  files: [inner/]
YAML
expect 0 data fetch --recipe inner.yaml --out inner --json
[ "$(field warnings)" = "[]" ] || fail "a warning without a reason in --json"
grep -q '^warning' "$err" && fail "a warning without a reason"
grep -q 'From the inside' inner/corpus/docs/pages.txt || fail "the archive's text is missing"
grep -q instead inner/recipe.json && fail "a warning without a reason"
mkdir -p root/usr/bin
printf '#!/bin/sh\necho "Spoken by a program: $1"\n' >root/usr/bin/speak
chmod +x root/usr/bin/speak
package speaker 1.0
cat >run.yaml <<YAML
- domain: docs
  package: speaker
  version: "1.0"
  sha256: $(sha256sum shelf/speaker_1.0_all.deb | cut -d ' ' -f 1)
  licence: MIT
  folder: usr
  run: [usr/bin/speak, "well met"]
YAML
expect 0 data build --recipe run.yaml --out built --text spoken --vocabulary 257
grep -q 'Spoken by a program: well met' spoken/corpus/docs/speaker.txt || fail "the program's text is missing"
says "docs"

# A build fetches with the same warnings, and its manifest tells the package of every source.
expect 0 data build --recipe recipe.yaml --out pinned --vocabulary 257 --json; warned "$drift"
# The version is the recipe's, the file is not.
sed "s/^  version: 1.9-1/  version: 2.0-1/" recipe.yaml >sum.yaml
expect 0 data build --recipe sum.yaml --out summed --text summed-text --vocabulary 257 --json
warned "pages: version 2.0-1 is the same, its sha256 is not"
# A folder that was fetched earlier tells as much; text of nobody's package tells nothing.
expect 0 data build --data pinned-text --out later --vocabulary 257 --json
[ "$(field warnings)" = "[]" ] || fail "a warning without a reason"
cmp pinned/manifest.json later/manifest.json || fail "fetched or there already: two manifests"
expect 0 data build --data pinned-text/corpus/web --out plain --vocabulary 257
python3 - "$sum" "$(sha256sum shelf/pages_2.0-1_all.deb | cut -d ' ' -f 1)" <<'PY' || fail "$(cat pinned/manifest.json)"
import json, sys
sources = json.load(open("pinned/manifest.json"))["sources"]
told = [(s["domain"], s["name"], s["licence"], s["package"]) for s in sources]
assert told == [
    ("sayings", "proverbs.txt", "CC0-1.0", {"name": "proverbs", "version": "1.0-1", "sha256": sys.argv[1]}),
    ("web", "pages.txt", "MIT", {"name": "pages", "version": "2.0-1", "sha256": sys.argv[2]}),
], told
assert all("package" not in s for s in json.load(open("plain/manifest.json"))["sources"])
PY

# What cannot work leaves nothing behind.
sed 's|usr/share/pages/\*.html|usr/share/none/*|' recipe.yaml >none.yaml
expect 3 data fetch --recipe none.yaml --out x; hints "gave no text"; hints "warning: $drift"
sed 's/package: pages/package: absent/' recipe.yaml >absent.yaml
expect 1 data fetch --recipe absent.yaml --out x; hints "was not found"
expect 3 data fetch --recipe nowhere.yaml --out x
sed 's/strip: html/strip: hmtl/' recipe.yaml >strip.yaml
expect 3 data fetch --recipe strip.yaml --out x; hints "html"
mkdir tools
for tool in grep cat tail; do ln -s "$(command -v $tool)" tools/$tool; done
PATH=$PWD/tools expect 3 data fetch --recipe recipe.yaml --out x; hints "apt-get is not on this machine"
[ -z "$(ls -d x* 2>/dev/null)" ] || fail "left behind: $(ls -d x*)"
mkdir y.fetching; echo "of the user" >y.fetching/own.txt
expect 2 data fetch --recipe recipe.yaml --out y; hints "y.fetching"
[ -e y.fetching/own.txt ] || fail "a folder of the user's was removed"
