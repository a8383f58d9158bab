"""The pair in Kubernetes: what of its manifests is written by code, from compose.yaml and alerts.yml."""
