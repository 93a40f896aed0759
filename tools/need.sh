#!/usr/bin/env bash
# need.sh makes sure that commands are there:
#
#     tools/need.sh protoc=protobuf-compiler+libprotobuf-dev ip=iproute2
#
# Each argument is a command and the Debian package that has it, or several with
# + between them. Missing ones are installed where apt-get and root (or sudo
# without a password) are at hand; elsewhere it says what is missing and fails.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

packages=() commands=()
for pair in "$@"; do
  command -v "${pair%%=*}" >/dev/null && continue
  commands+=("${pair%%=*}")
  IFS=+ read -ra of_command <<<"${pair#*=}"
  packages+=("${of_command[@]}")
done
[ ${#packages[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
  echo "missing: ${commands[*]} (on Debian: apt-get install ${packages[*]})" >&2
  exit 1
fi

echo "installing ${packages[*]}" >&2
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 "$@" >/dev/null; }
# The package lists of a fresh machine are empty or old.
apt install -y --no-install-recommends "${packages[@]}" 2>/dev/null ||
  { apt update && apt install -y --no-install-recommends "${packages[@]}"; }
