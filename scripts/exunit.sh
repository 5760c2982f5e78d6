#!/usr/bin/env bash
# The ExUnit suite in two halves at the same time: much of a test of faults is waiting.
set -uo pipefail
cd "$(dirname "$0")/.."
export MIX_ENV=test
logs=_build/exunit
mkdir -p "$logs"
mix compile --no-deps-check || exit

half() { MIX_TEST_PARTITION=$1 mix test --partitions 2 2>&1 | tee "$logs/$1.log"; }
status=0
half 2 >/dev/null &
half 1 || status=$?
wait $! || status=$?
cat "$logs/2.log"
# Once more, where the end of a long log shows it.
[ "$status" = 0 ] || grep -h -A 30 -E '^ +[0-9]+\) test|^Failed:' "$logs/1.log" "$logs/2.log"
exit "$status"
