#!/usr/bin/env bash
# fuzz.sh [TIME] runs every fuzz target of the module, one after the other, for
# TIME each (default 30s). What it finds is written below the package's
# testdata/fuzz and belongs into the commit that repairs it.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}

failed=()
while IFS=: read -r file target; do
  pkg=./$(dirname "$file")
  echo "=== $pkg $target"
  go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "$time" || failed+=("$pkg $target")
done < <(git grep -oE --untracked '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/:func /:/')
if [ ${#failed[@]} -gt 0 ]; then
  printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
