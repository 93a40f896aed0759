#!/usr/bin/env bash
# check-generated.sh runs go generate on a copy of the tree and fails when the
# committed files differ from what comes out: the Go of the .proto files, and
# the helper module that is compiled with OTP 25.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBUGHOST_OTP=${DEBUGHOST_OTP:-$PWD/.otp}

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
files() { git ls-files -z --cached --others --exclude-standard; }
files | while IFS= read -r -d '' f; do
  if [ -e "$f" ]; then printf '%s\0' "$f"; fi
done | xargs -0 cp -P --parents -t "$copy"

# Without the old ones, so that one that nothing generates any more shows.
find "$copy" \( -name '*.pb.go' -o -name '*.beam' \) -exec rm {} +
(cd "$copy" && go generate ./...)

# protoc writes its own version into a comment; another protoc of the same
# output is fine.
failed=0
while IFS= read -r -d '' f; do
  diff -N -u -I '^//[[:space:]-]*protoc[[:space:]]*v' "$f" "$copy/$f" || failed=1
done < <({ files; cd "$copy" && find . -type f -printf '%P\0'; } | sort -zu)
if [ "$failed" = 1 ]; then
  echo 'generated files are out of date (run: make generate)' >&2
fi
exit "$failed"
