#!/usr/bin/env bash
# Run Debian's Dialyzer over the compiled gateway. The PLT of OTP, Elixir and the vendored applications
# is built once (a few minutes) and kept in .cache/, named by what it was made from.
set -euo pipefail
cd "$(dirname "$0")/.."
otp_apps=(erts kernel stdlib crypto ssl public_key inets)
libs=("$ELIXIR_EBIN" "$(dirname "$ELIXIR_EBIN")"/../{eex,logger}/ebin)
for app in cowboy ranch cowlib; do libs+=(vendor/otp/"$app"-*/ebin); done
for app in jiffy redis_client; do libs+=(/usr/lib/erlang/lib/"$app"-*/ebin); done
mkdir -p .cache
# From OTP 26 on, calls of unknown functions are reported unless told otherwise.
no_unknown=()
if [ "$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')" -ge 26 ]; then no_unknown=(-Wno_unknown); fi
key=$({ erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().'; echo "${otp_apps[@]}" "${libs[@]}"; } | sha256sum | cut -c1-12)
plt=.cache/koma-$key.plt
if [ ! -f "$plt" ]; then
  echo "Building the Dialyzer PLT $plt (once, some minutes)"
  dialyzer -pa "$ELIXIR_EBIN" --build_plt --output_plt "$plt.new" --apps "${otp_apps[@]}" -r "${libs[@]}" "${no_unknown[@]}" --quiet || [ $? -eq 2 ]
  mv "$plt.new" "$plt"
fi
# Elixir is needed to read the debug information of its modules.
dialyzer -pa "$ELIXIR_EBIN" --plt "$plt" --no_check_plt -Wunmatched_returns "${no_unknown[@]}" -r "$KOMA_EBIN"
