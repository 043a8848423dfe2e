// Module cilium pins the definitions of Cilium's BGP and pools, for the manifests in docs/install. Only files of it are used.
module github.com/haystacknetworks/aci-sync/tools/lab/cilium

go 1.26.0

require github.com/cilium/cilium v1.20.2
