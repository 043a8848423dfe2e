package apicsim

import "slices"

// nodeClasses say on which leafs an L3Out is. Source: apic-rest.md 5.1; of the relation only what
// is needed to find the node.
func nodeClasses(object []prop) []*class {
	return []*class{
		{
			name: "l3extLNodeP", label: "Logical Node Profile", prefix: "lnodep-", naming: "name", parents: []string{"l3extOut"},
			props: slices.Concat(object, []prop{{name: "name", access: naming, rule: text(patternName, 1, 64)}}),
		},
		{
			name: "l3extRsNodeL3OutAtt", label: "Fabric Node", prefix: "rsnodeL3OutAtt-", naming: "tDn", brackets: true,
			parents: []string{"l3extLNodeP"},
			props: slices.Concat(object, []prop{
				{name: "tDn", access: naming, rule: text(`^topology/pod-[0-9]+/node-[0-9]+$`, 1, 0)},
				{name: "rtrId", def: "0.0.0.0"}, {name: "rtrIdLoopBack", def: "yes", rule: word("yes", "no")},
			}),
		},
	}
}
