#!/bin/sh
# Starts a program that reads no environment with links that follow the ports: links.sh FROM TO PROGRAM [ARGUMENT]...
# Copies the files of the folder FROM to the folder TO, with this machine's ports in the place of the default ones.
set -eu
from=$1 to=$2
shift 2
mkdir -p "$to"
for file in "$from"/*; do
  # Two colons mark what is done: a port may be the default of another.
  sed -e "s/localhost:3000/localhost::${GRAFANA_PORT:-3000}/g" \
    -e "s/localhost:9090/localhost::${PROMETHEUS_PORT:-9090}/g" \
    -e "s/localhost:9093/localhost::${ALERTMANAGER_PORT:-9093}/g" \
    -e "s/localhost:9428/localhost::${LOGS_PORT:-9428}/g" \
    -e "s/localhost:16686/localhost::${JAEGER_UI_PORT:-16686}/g" \
    -e "s/localhost::/localhost:/g" "$file" >"$to/${file##*/}"
done
exec "$@"
