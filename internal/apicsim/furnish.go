package apicsim

import (
	"strconv"
	"strings"
	"time"
)

// furnish makes what every fabric has.
func (s *Sim) furnish() {
	t := s.begin()
	uni := t.add(s.fabric.top, "uni")
	common := t.add(uni, "tn-common")
	infra := t.add(uni, "tn-infra")
	mgmt := t.add(uni, "tn-mgmt")
	t.add(common, "ctx-default")
	t.add(common, "bgpPfxP-default")
	// Source: imdata_fvCtx.json.
	t.add(infra, "ctx-overlay-1", "scope", "16777199", "seg", "16777199")
	t.add(mgmt, "ctx-inb")
	t.add(mgmt, "ctx-oob")
	pod := t.add(t.add(s.fabric.top, "topology"), "pod-1")
	t.controller(s.id, s.opts.Version)
	for _, id := range s.opts.Leafs {
		t.leaf(pod, strconv.Itoa(id))
	}
	users := t.add(uni, "userext")
	for i := range s.opts.Users {
		t.account(users, &s.opts.Users[i])
	}
	t.settle()
	t.commit()
}

// controller adds an APIC to the topology, and lets all of them know each other.
// Source: tests/checks/apic_version_md5_check/infraWiNode_apic1.json of s:preup.
func (t *tx) controller(id int, version string) {
	pod := t.s.fabric.lookup("topology", "pod-1")
	number := strconv.Itoa(id)
	sys := t.node(pod, number, "apic"+number, "controller", "unknown", version)
	t.add(t.add(sys, "ctrlrfwstatuscont"), "ctrlrrunning", "version", version)
	view := t.add(sys.parent, "av")
	for i := 1; i < id; i++ {
		other := t.s.fabric.lookup("topology", "pod-1", "node-"+strconv.Itoa(i))
		t.see(view, other)
		t.see(other.children["av"], sys.parent)
	}
	t.see(view, sys.parent)
}

// see adds an APIC to what another knows of the cluster.
func (t *tx) see(view, apic *node) {
	t.add(view, apic.rn, "nodeName", apic.attr("name"), "addr", apic.attr("address"), "mbSn", apic.attr("serial"))
}

// leaf adds a leaf switch, which runs the release that goes with that of the APIC.
// Source: firmwareRunning in tests/test_common_data.py of s:preup.
func (t *tx) leaf(pod *node, id string) *node {
	version := "n9000-1" + t.s.opts.Version
	sys := t.node(pod, id, "leaf"+id, "leaf", "active", version)
	t.add(t.add(sys, "fwstatuscont"), "running", "version", version, "peVer", t.s.opts.Version)
	return sys.parent
}

// node adds a node with its system, which it returns.
func (t *tx) node(pod *node, id, name, role, state, version string) *node {
	now := time.Now().Format(stampLayout)
	address, model := "10.0.0."+id, "APIC-SERVER-L2"
	if role == "leaf" {
		address, model = "0.0.0.0", "N9K-C93180YC-FX"
	}
	serial := "SIM" + strings.Repeat("0", max(0, 8-len(id))) + id
	same := []string{"name", name, "role", role, "address", address, "serial", serial, "version", version}
	at := t.add(pod, "node-"+id, append(same, "fabricSt", state, "model", model, "lastStateModTs", now)...)
	return t.add(at, "sys", append(same, "id", id, "podId", pod.attr("id"), "lastRebootTime", now)...)
}

// add makes an object that cannot be deleted; attrs are names and values in turn.
func (t *tx) add(parent *node, rn string, attrs ...string) *node {
	c, rn, _ := matchRN(parent.class, rn)
	n := t.create(parent, c, rn, strings.TrimPrefix(parent.dn+"/"+rn, "/"))
	n.system = true
	for i := 0; i+1 < len(attrs); i += 2 {
		n.attrs[c.find(attrs[i])] = attrs[i+1]
	}
	return n
}
