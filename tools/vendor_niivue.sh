#!/usr/bin/env bash
# Put NiiVue, the viewer of the report, into the package: the published single-file build of a pinned version, its
# hash, and the licences of what is inside it. Needs npm; users of Anatograph never do.
#   tools/vendor_niivue.sh          fetch the pinned version and check it against SHA256SUMS
#   tools/vendor_niivue.sh X.Y.Z    fetch another version and write its hash; then change VERSION below
set -euo pipefail
VERSION=0.69.0
here=$(cd "$(dirname "$0")/.." && pwd)
target=$here/src/anatograph/reporting/static/niivue
wanted=${1:-$VERSION}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --omit=dev --omit=optional --ignore-scripts "@niivue/niivue@$wanted"
cd node_modules
cp @niivue/niivue/dist/niivue.umd.js "$work/niivue.umd.js"
cd "$work"
if [ "$wanted" = "$VERSION" ]; then
    sha256sum --check --quiet "$target/SHA256SUMS"
else
    sha256sum niivue.umd.js >"$target/SHA256SUMS"
fi
cp niivue.umd.js "$target/"
{
    echo "niivue.umd.js is NiiVue $wanted (https://niivue.com, BSD-2-Clause, see LICENSE). It contains the following packages."
    find node_modules -mindepth 2 -maxdepth 3 -name package.json | LC_ALL=C sort | while read -r package; do
        folder=$(dirname "$package")
        case $folder in node_modules/@niivue/niivue | node_modules/*/*/*/*) continue ;; esac
        name=$(node -p "const p = require('./$package'); p.version ? p.name + ' ' + p.version + ', ' + p.license : ''")
        [ -n "$name" ] || continue
        printf '\n%s\n%s\n\n' "----------------------------------------" "$name"
        find "$folder" -maxdepth 1 -iname 'licen[cs]e*' -exec cat {} \;
    done
} >"$target/THIRD_PARTY_LICENSES.txt"
echo "NiiVue $wanted is in $target"
