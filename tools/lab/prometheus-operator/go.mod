// Module prometheus-operator pins the definitions of ServiceMonitor and PrometheusRule. Only files of it are used.
module github.com/haystacknetworks/aci-sync/tools/lab/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
