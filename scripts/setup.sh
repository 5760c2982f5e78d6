#!/usr/bin/env bash
# Install what Koma needs and is not there yet: Debian packages, OTP applications, Python packages, npm packages.
# Each part leaves a stamp of what it was made from, so a second run does nothing and needs no network.
# With --browser also what only tests need: Chromium, and the clients of others.
set -euo pipefail
cd "$(dirname "$0")/.."

debian_packages=(
  elixir erlang-base erlang-dev erlang-dialyzer erlang-crypto erlang-ssl erlang-public-key erlang-asn1
  erlang-inets erlang-tools erlang-runtime-tools erlang-parsetools
  erlang-syntax-tools erlang-xmerl erlang-eunit erlang-jiffy erlang-proper erlang-redis-client
  redis-server ffmpeg fonts-noto-color-emoji python3-venv curl
)
[ "${1:-}" = --browser ] && debian_packages+=(chromium fonts-inter)
otp_applications=(cowboy ranch cowlib gun)
web_clients=(phoenix/priv/static/phoenix.mjs phoenix_live_view/priv/static/phoenix_live_view.esm.js)
stamps=.cache/setup
mkdir -p "$stamps"

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
fail() { printf '[setup] %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -- "$@"
  else fail "root is needed for: $* (run as root, or install sudo)"
  fi
}

# stamped NAME KEY...: true when NAME was last made from the same KEY.
stamped() { local name=$1; shift; [ "$(cat "$stamps/$name" 2>/dev/null)" = "$*" ]; }
stamp() { local name=$1; shift; printf '%s' "$*" >"$stamps/$name"; }

missing_debian_packages() {
  local package
  for package in "${debian_packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
  command -v node >/dev/null || echo nodejs
  command -v npm >/dev/null || echo npm
}

debian() {
  local missing
  mapfile -t missing < <(missing_debian_packages)
  [ ${#missing[@]} -eq 0 ] && return
  say "Debian packages: ${missing[*]}"
  as_root apt-get update -qq || fail "Debian's package registry cannot be reached (apt-get update failed)"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
    >.cache/apt.log 2>&1 || { tail -n 20 .cache/apt.log >&2; fail "apt-get install failed; the log is .cache/apt.log"; }
}

# Debian carries Cowboy and a few more OTP applications only inside rabbitmq-server. The package is
# downloaded and unpacked into vendor/otp; it is never installed, and no broker is started.
otp() {
  local key
  key="${otp_applications[*]} $(sha256sum scripts/mend-cowboy.escript | cut -c1-16)"
  stamped otp "$key" && [ -d vendor/otp ] && return
  say "OTP applications from Debian's rabbitmq-server package: ${otp_applications[*]}"
  local folder application
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' RETURN
  chmod 755 "$folder"
  if ! (cd "$folder" && apt-get download -qq rabbitmq-server >download.log 2>&1); then
    as_root apt-get update -qq || true
    (cd "$folder" && apt-get download -qq rabbitmq-server >download.log 2>&1) ||
      { cat "$folder/download.log" >&2; fail "Debian's package registry cannot be reached (rabbitmq-server)"; }
  fi
  dpkg-deb -x "$folder"/rabbitmq-server_*.deb "$folder/unpacked"
  rm -rf vendor/otp && mkdir -p vendor/otp
  for application in "${otp_applications[@]}"; do
    cp -r "$folder"/unpacked/usr/lib/rabbitmq/lib/*/plugins/"$application"-* vendor/otp/
  done
  escript scripts/mend-cowboy.escript vendor/otp || fail "Cowboy could not be mended"
  stamp otp "$key"
}

python() {
  local key
  key=$(sha256sum pyproject.toml | cut -c1-16)
  stamped python "$key" && [ -x .venv/bin/koma ] && return
  [ -x .venv/bin/python ] || { say "Python environment .venv"; python3 -m venv .venv; }
  say "Python packages of pyproject.toml (torch is about 200 MB)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' ||
    fail "PyPI cannot be reached, or a package of pyproject.toml is missing there"
  # PyPI's torchvision pulls a CUDA build of torch; without its dependencies it serves for video preprocessing.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 ||
    fail "PyPI cannot be reached (torchvision)"
  stamp python "$key"
}

javascript() {
  local key
  key=$(sha256sum package-lock.json | cut -c1-16)
  stamped javascript "$key" && [ -d node_modules/phoenix ] && return
  say "npm packages of package.json"
  npm ci --silent --no-audit --no-fund || fail "the npm registry cannot be reached"
  stamp javascript "$key"
}

# The web pages load the official clients from priv/static/vendor, as they come from npm.
web_clients() {
  local file
  mkdir -p priv/static/vendor
  for file in "${web_clients[@]}"; do
    cmp -s "node_modules/$file" "priv/static/vendor/${file##*/}" || cp "node_modules/$file" priv/static/vendor/
  done
}

# The alternatives that benchmarks run beside Koma, in an environment of their own, and wrk.
bench() {
  local key packages
  command -v wrk >/dev/null || { say "Debian package: wrk"; as_root apt-get install -qq -y --no-install-recommends wrk >.cache/apt.log 2>&1 ||
    fail "apt-get install wrk failed; the log is .cache/apt.log"; }
  mapfile -t packages < <(.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["bench"], sep="\n")')
  key=$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c1-16)
  stamped bench "$key" && [ -x .venv-bench/bin/python ] && return
  [ -x .venv-bench/bin/python ] || { say "Python environment .venv-bench"; python3 -m venv .venv-bench; }
  say "Python packages of the group bench: ${packages[*]}"
  .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}" ||
    fail "PyPI cannot be reached, or a package of the group bench is missing there"
  stamp bench "$key"
}

# The clients of others that tests run, in an environment of their own.
clients() {
  local key packages
  mapfile -t packages < <(.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["clients"], sep="\n")')
  key=$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c1-16)
  stamped clients "$key" && [ -x .venv-clients/bin/python ] && return
  [ -x .venv-clients/bin/python ] || { say "Python environment .venv-clients"; python3 -m venv .venv-clients; }
  say "Python packages of the group clients (about 430 MB): ${packages[*]}"
  .venv-clients/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}" ||
    fail "PyPI cannot be reached, or a package of the group clients is missing there"
  stamp clients "$key"
}

debian
otp
python
javascript
web_clients
[ "${1:-}" != --browser ] || clients
[ "${1:-}" != bench ] || bench
say "everything is in place"
