#!/bin/sh
# build.sh [OUT]: compiles the agent and its companions with OTP 25 into OUT
# (default: beside the sources). The result is the same on every machine:
# +deterministic keeps paths and times out, and each module is named after a hash
# of its source, a companion after the agent's name and its own.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here}
otp=${DEBUGHOST_OTP:-$here/../../../.otp}/25
[ -x "$otp/bin/erlc" ] || { echo "build.sh: no OTP 25 in $otp (run: make otp)" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

hash() { sha256sum "$here/$1.erl" | cut -c1-8; }
compile() { # SOURCE NAME: HELPER is what companions call the agent
	cp "$here/$1.erl" "$tmp/$2.erl"
	(cd "$tmp" && "$otp/bin/erlc" +deterministic -Werror "-DAGENT=$2" "-DHELPER=$agent" "$2.erl")
	cp "$tmp/$2.beam" "$out/$1.beam"
}

agent=debughost_agent_$(hash debughost_agent)
compile debughost_agent "$agent"
for source in "$here"/*.erl; do
	short=$(basename "$source" .erl)
	[ "$short" = debughost_agent ] || compile "$short" "${agent}_${short}_$(hash "$short")"
done
