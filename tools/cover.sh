#!/usr/bin/env bash
# cover.sh PROFILE [LEAST] prints how much of each library package a coverage
# profile covers, in percent of its statements, and fails when one has less
# than LEAST (default 90). Generated code does not count, nor do commands:
# processes that tests start are not measured.
set -euo pipefail
module=$(go list -m)
grep -v -e '^mode:' -e '\.pb\.go:' "$1" | awk -v module="$module/" -v least="${2:-90}" '
  # One line a block and test binary: file.go:from,to statements hits
  {
    statements[$1] = $2
    if ($3 > 0) hit[$1] = 1
  }
  END {
    for (block in statements) {
      file = block
      sub(/:.*/, "", file)
      sub(/\/[^\/]*$/, "", file)
      sub(module, "", file)
      if (file !~ /^(erl|sdk|host|control)(\/|$)/) continue
      total[file] += statements[block]
      if (block in hit) covered[file] += statements[block]
    }
    for (pkg in total) {
      percent = 100 * covered[pkg] / total[pkg]
      low = percent < least
      printf "%5.1f %%  %5d statements  %s%s\n", percent, total[pkg], pkg, low ? "  (under " least " %)" : "" | "sort -k4"
      failed += low
    }
    close("sort -k4")
    exit failed > 0
  }'
