#!/usr/bin/env bash
# Builds what checks the manifests, from Go modules, into var/kubernetes. `apiserver` adds the API server, `collector`
# the collector: half an hour and ten minutes.
set -euo pipefail
cd "$(dirname "$0")/../../.."

kubernetes=1.36.3
out=$PWD/var/kubernetes
mkdir -p "$out/bin" "$out/crds" "$out/build"
export GOBIN=$out/bin GOWORK=off GOFLAGS="-mod=mod -buildvcs=false"

# Where the files of a module are.
folder() { (cd "$out" && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p'; }

go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
go install github.com/zegl/kube-score/cmd/kube-score@v1.20.0
# Its module has a host of its own, which not every proxy passes on.
go install golang.stackrox.io/kube-linter/cmd/kube-linter@v0.8.3 || echo 'kube-linter: not there, its test will skip' >&2

cp --no-preserve=mode "$(folder k8s.io/kubernetes@v$kubernetes)/api/openapi-spec/swagger.json" "$out/swagger.json"
cp --no-preserve=mode \
    "$(folder github.com/cert-manager/cert-manager@v1.21.2)"/deploy/crds/cert-manager.io_{certificates,issuers}.yaml \
    "$(folder github.com/prometheus-operator/prometheus-operator@v0.85.0)"/example/prometheus-operator-crd/monitoring.coreos.com_{prometheusrules,servicemonitors}.yaml \
    "$(folder sigs.k8s.io/gateway-api@v1.5.0)"/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml \
    "$out/crds"

if [[ " $* " == *" collector "* ]]; then
    go run go.opentelemetry.io/collector/cmd/builder@v0.149.0 --config tests/stack/cluster/otelcol.yaml
    mv "$out/build/otelcol/otelcol" "$GOBIN"
fi
[[ " $* " == *" apiserver "* ]] || exit 0
# A program of this module builds only where its own parts, which it takes from beside itself, are replaced by releases.
cd "$out/build"
{
    printf 'module build\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$kubernetes"
    sed -n 's|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|\t\1 => \1 v0.'"${kubernetes#1.}"'|p' \
        "$(folder k8s.io/kubernetes@v$kubernetes)/go.mod"
    printf ')\n'
} >go.mod
version=k8s.io/component-base/version
go build -o "$GOBIN/kube-apiserver" -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 \
    -X $version.gitMinor=$(cut -d. -f2 <<<"$kubernetes")" k8s.io/kubernetes/cmd/kube-apiserver
