#!/bin/sh
# build.sh [OUT]: compiles the boot module with OTP 25 into OUT (default: beside the
# source). The result is the same on every machine.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
erlc=${DEBUGHOST_OTP:-$here/../../../../.otp}/25/bin/erlc
[ -x "$erlc" ] || { echo "build.sh: no OTP 25 in $erlc (run: make otp)" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp "$here/debughost_sandbox.erl" "$tmp/"
(cd "$tmp" && "$erlc" +deterministic -Werror debughost_sandbox.erl)
cp "$tmp/debughost_sandbox.beam" "${1:-$here}/"
