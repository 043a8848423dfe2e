// Package lab starts a real Kubernetes control plane on loopback: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kwok for the nodes and the MetalLB controller.
//
// It hides where the binaries come from (built from the Go module proxy at the versions pinned in
// tools/lab, cached outside the tree), which ports are free, how kwokctl wants to be told, and how
// every process is found again and ended, also after the one that started it was killed. Nothing
// is mocked: a Deployment gets Pods with addresses of both families, a LoadBalancer Service gets
// an address, and RBAC is in force. What kwok leaves out is containers: no program runs in a Pod
// and no packet reaches its address. The admission controller for ServiceAccounts is on, so a
// namespace is good for Pods once its ServiceAccount default is there. A bare lab, which is for
// benchmarks, is etcd and kube-apiserver alone.
//
// Labs belong to a checkout and keep their state in its .lab directory. There, one process at a
// time is the owner of a lab, by a file lock that dies with it; whoever comes next ends what an
// owner that was killed has left. The lab of Up has no owner: it stays until Down.
//
// It runs on Linux; elsewhere it is untested, and on Windows it does not build.
package lab
