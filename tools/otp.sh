#!/usr/bin/env bash
# otp.sh puts several Erlang/OTP releases, each with an Elixir, side by side:
#
#     tools/otp.sh            # 25, 27 and 29
#     tools/otp.sh 27         # only that one
#
# into $DEBUGHOST_OTP (default: .otp in the repository), so that
# $DEBUGHOST_OTP/27/bin/{erl,erlc,escript,epmd,elixir,elixirc,iex,mix,rebar3} run.
#
# It takes Debian's own packages of the Debian release that carries each OTP,
# together with that release's C library, and unpacks them into the directory.
# It needs no root and no chroot, and touches nothing that is installed. The ELF
# interpreter and library path of every program are set to the directory's own
# copies, so the directory cannot be moved: run this again after moving it.
#
# A release that is there already and runs is left alone, wherever it came from.
# A run that was interrupted goes on with the packages it has. Several runs at
# once wait for each other.
#
#     DEBUGHOST_OTP  where to put them
#     MIRROR         Debian mirror; default: what this machine's apt uses
#     KEYRING        keys that sign it; default: Debian's archive keyring
#     KEEP_CACHE=1   keep the downloaded packages
set -euo pipefail
export LC_ALL=C

repo=$(cd "$(dirname "$0")/.." && pwd)
otp_dir=${DEBUGHOST_OTP:-$repo/.otp}
case $otp_dir in /*) ;; *) otp_dir=$PWD/$otp_dir ;; esac
keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# What the tests and the demo use. No wx and no GTK: they pull in a desktop.
packages=(elixir erlang-base erlang-dev erlang-runtime-tools erlang-ssl
  erlang-os-mon erlang-mnesia erlang-syntax-tools patchelf)

say() { printf 'otp: %s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# suite_of names the Debian release that carries an OTP release.
suite_of() {
  case $1 in
    25) echo bookworm ;;
    27) echo trixie ;;
    29) echo forky ;;
    *) die "unknown release $1 (known: 25, 27, 29)" ;;
  esac
}

# runs says whether DIR holds release VER and both Erlang and Elixir start.
runs() { # VER DIR
  [ -x "$2/bin/erl" ] && [ -x "$2/bin/elixir" ] &&
    [ "$("$2/bin/elixir" -e 'IO.write(System.otp_release())' </dev/null 2>/dev/null)" = "$1" ]
}

# The stamp holds the directory's own path: a copied or moved directory does
# not run any more, so its stamp must not count.
stamped() { [ "$(cat "$1/.debughost-otp" 2>/dev/null)" = "$1" ] && whole "$1"; }
stamp() { printf '%s\n' "$1" 2>/dev/null >"$1/.debughost-otp"; }

# whole says whether a directory that this script has made has all that it makes now.
whole() { [ ! -e "$1/.lock" ] || [ -x "$1/bin/rebar3" ]; }

# need_debian explains what to do where Debian's tools are not there.
need_debian() {
  local missing=() tool
  for tool in apt-get dpkg dpkg-deb flock find od; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ "$(uname -s)" = Linux ] || missing+=("Linux")
  [ ${#missing[@]} -eq 0 ] || die "cannot install OTP $1 here, missing: ${missing[*]}
This script unpacks Debian's packages. On another system install Erlang/OTP 25,
27 and 29, each with an Elixir, in your usual way, link them as 25, 27 and 29
into one directory so that 27/bin/erl and 27/bin/elixir run, and set
DEBUGHOST_OTP to that directory."
  case $(dpkg --print-architecture) in
    amd64 | arm64) ;;
    *) die "cannot install OTP $1 here: only amd64 and arm64 are supported" ;;
  esac
  [ -r "$keyring" ] || die "no Debian keys at $keyring (install debian-archive-keyring, or set KEYRING)"
}

# mirrors lists the repositories that this machine's apt reads, without asking
# the network. Others than Debian's may be among them; they fail at the
# signature, and the next one is tried.
mirrors() {
  if [ -n "${MIRROR:-}" ]; then
    echo "$MIRROR"
    return
  fi
  apt-get update --print-uris 2>/dev/null |
    sed -nE "s#^'(.*)/dists/([^/]*)/InRelease'.*#\1 \2#p" |
    awk '$2 !~ /-(security|backports)/ && !seen[$1]++ { print $1 }'
}

# private_apt runs apt-get on lists, status and cache of its own. A mirror that
# lags behind, or a machine whose clock is off, is good enough here: signatures
# are checked all the same.
private_apt() { # APT_DIR ARGS…
  local a=$1
  shift
  apt-get -qq -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 \
    -o APT::Install-Recommends=0 -o APT::Update::Error-Mode=any \
    -o Acquire::Languages=none -o Acquire::Retries=3 \
    -o Acquire::Check-Valid-Until=false -o Dir::Etc="$a/etc" -o Dir::Etc::sourcelist="$a/etc/sources.list" \
    -o Dir::Etc::sourceparts=- -o Dir::Etc::netrc=/etc/apt/auth.conf \
    -o Dir::Etc::netrcparts=/etc/apt/auth.conf.d \
    -o Dir::State="$a" -o Dir::State::lists="$a/lists" \
    -o Dir::State::status="$a/status" -o Dir::Cache="$a/cache" "$@"
}

download() { # VER APT_DIR
  local suite a=$2 mirror found='' tried=''
  suite=$(suite_of "$1")
  mkdir -p "$a"/etc/{apt.conf.d,preferences.d} "$a/lists/partial" "$a/cache/archives/partial"
  : >"$a/status" # nothing is installed, so every dependency is downloaded
  for mirror in $(mirrors); do
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$a/etc/sources.list"
    if private_apt "$a" update >"$a/log" 2>&1; then
      found=$mirror
      break
    fi
    tried+="
  $mirror: $(grep -m 1 -E "^[EW]:" "$a/log" || tail -n 1 "$a/log")"
  done
  if [ -z "$found" ]; then
    die "no Debian mirror with $suite for OTP $1${tried:-: this machine has no apt sources} (set MIRROR to one)"
  fi
  say "OTP $1: downloading from Debian $suite"
  private_apt "$a" -y --download-only install "${packages[@]}" >"$a/log" 2>&1 ||
    die "OTP $1: download: $(tail -n 3 "$a/log")"
  # It is one file. What it names as its dependencies would bring a desktop along.
  (cd "$a/cache/archives" && private_apt "$a" download rebar3) >"$a/log" 2>&1 ||
    die "OTP $1: download rebar3: $(tail -n 3 "$a/log")"
}

# unpack fills ROOT with the packages and with the libraries they need.
unpack() { # APT_DIR ROOT
  local deb link target dir
  for deb in "$1"/cache/archives/*.deb; do
    case ${deb##*/} in
      elixir_* | erlang-* | rebar3_* | patchelf_* | lib* | zlib1g* | gcc-*-base*) dpkg-deb -x "$deb" "$2" ;;
    esac
  done
  # Absolute links would lead out of ROOT.
  find "$2" -type l -lname '/*' | while read -r link; do
    target=$(readlink "$link")
    if [ -e "$2$target" ]; then ln -sfn "$2$target" "$link"; fi
  done
  # Newer suites ship their loader below /usr only, and rely on these links.
  for dir in lib lib64; do
    [ -e "$2/$dir" ] || ln -s "usr/$dir" "$2/$dir"
  done
}

# relink makes every program and library below ROOT use ROOT's own loader and
# libraries. The rpath is the old kind, which libraries inherit from the
# program that loads them: so they find each other too.
relink() { # ROOT
  local root=$1 loader triplet rpath file
  case $(dpkg --print-architecture) in
    amd64) triplet=x86_64-linux-gnu loader=$root/lib64/ld-linux-x86-64.so.2 ;;
    arm64) triplet=aarch64-linux-gnu loader=$root/lib/ld-linux-aarch64.so.1 ;;
  esac
  rpath=$root/lib/$triplet:$root/usr/lib/$triplet:$root/usr/lib/$triplet/systemd
  patch() { "$loader" --library-path "$rpath" "$root/usr/bin/patchelf" "$@"; }
  find "$root/usr/lib/erlang" -type f \( -perm -100 -o -name '*.so' \) ! -name '*.[ao]' |
    while read -r file; do
      [ "$(head -c4 "$file" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || continue
      if patch --print-interpreter "$file" >/dev/null 2>&1; then
        patch --set-interpreter "$loader" "$file"
      fi
      patch --force-rpath --set-rpath "$rpath" "$file"
    done
}

# wrappers writes BIN/erl and the rest. Elixir's own directory comes first in
# their PATH, since `iex -S mix` reads the mix that it finds there as Elixir.
wrappers() { # ROOT BIN
  local erlang=$1/usr/lib/erlang elixir=$1/usr/lib/elixir/bin erts name program
  erts=$(find "$erlang" -maxdepth 1 -name 'erts-*')/bin
  mkdir -p "$2"
  for name in erl erlc escript epmd elixir elixirc iex mix; do
    case $name in
      erl) program=$erts/erlexec ;;
      erlc | escript | epmd) program=$erts/$name ;;
      *) program=$elixir/$name ;;
    esac
    [ -x "$program" ] || program=$erlang/bin/$name
    cat >"$2/$name" <<EOT
#!/bin/sh
ROOTDIR='$erlang' BINDIR='$erts' EMU=beam PROGNAME=erl
ERLC_EMULATOR='$2/erl' ESCRIPT_EMULATOR='$2/erl' PATH='$elixir':'$2':\$PATH
export ROOTDIR BINDIR EMU PROGNAME ERLC_EMULATOR ESCRIPT_EMULATOR PATH
exec '$program' "\$@"
EOT
    chmod +x "$2/$name"
  done
  cp "$1/usr/bin/rebar3" "$2/rebar3" # finds the escript beside it by PATH
}

install_release() { # VER
  local ver=$1 dir=$otp_dir/$1
  if stamped "$dir"; then return; fi
  if runs "$ver" "$dir" && whole "$dir"; then
    stamp "$dir" || : # read-only: looked at again next time
    return
  fi
  need_debian "$ver"
  if [ -e "$dir/bin" ] && [ ! -e "$dir/.lock" ]; then
    die "$dir is there but does not run as OTP $ver, and this script did not make it: repair or remove it"
  fi
  mkdir -p "$dir" 2>/dev/null || die "cannot create $dir (set DEBUGHOST_OTP to a directory of yours)"
  exec 9>"$dir/.lock" || die "cannot write to $dir (set DEBUGHOST_OTP to a directory of yours)"
  flock -n 9 || {
    say "OTP $ver: another run installs it, waiting"
    flock 9
  }
  if stamped "$dir"; then return; fi

  rm -rf "${dir:?}/root" "${dir:?}/bin" "$dir/.debughost-otp"
  mkdir -p "$dir/root"
  download "$ver" "$dir/.apt"
  say "OTP $ver: unpacking"
  unpack "$dir/.apt" "$dir/root"
  relink "$dir/root"
  wrappers "$dir/root" "$dir/bin"
  if ! runs "$ver" "$dir"; then
    die "OTP $ver: installed in $dir, but it does not run as OTP $ver:
$("$dir/bin/elixir" --version </dev/null 2>&1 | head -n 5)"
  fi
  [ -n "${KEEP_CACHE:-}" ] || rm -rf "$dir/.apt"
  stamp "$dir"
  say "OTP $ver: $("$dir/bin/elixir" --version </dev/null 2>/dev/null | tail -n 1) in $dir"
}

[ $# -gt 0 ] || set -- 25 27 29
for ver in "$@"; do suite_of "$ver" >/dev/null; done
for ver in "$@"; do (install_release "$ver"); done
