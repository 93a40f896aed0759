#!/bin/sh
# build.sh [OUT]: compiles the boot modules with OTP 25 into OUT (default: beside the
# sources). The result is the same on every machine.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
erlc=${DEBUGHOST_OTP:-$here/../../../../.otp}/25/bin/erlc
[ -x "$erlc" ] || { echo "build.sh: no OTP 25 in $erlc (run: make otp)" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp "$here"/*.erl "$tmp/"
# OTP 25 types the code of debughost_code in one of two ways, by chance.
(cd "$tmp" && "$erlc" +deterministic +no_type_opt -Werror ./*.erl)
cp "$tmp"/*.beam "${1:-$here}/"
