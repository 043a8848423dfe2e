package aci_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// subnets is a reply with n external subnets as an APIC sends them, and a tag for each.
func subnets(n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"totalCount":"%d","subscriptionId":"72057598349803562","imdata":[`, 2*n)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		ip := fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255)
		dn := "uni/tn-prod/out-wan/instP-web/extsubnet-[" + ip + "]"
		fmt.Fprintf(&b, `{"l3extSubnet":{"attributes":{"aggregate":"","annotation":"orchestrator:aci-sync:c1","childAction":"",`+
			`"descr":"","dn":"%s","extMngdBy":"","ip":"%s","lcOwn":"local","modTs":"2023-05-04T16:02:00.972-04:00",`+
			`"monPolDn":"uni/tn-common/monepg-default","name":"shop::web-7c9","nameAlias":"","scope":"import-security",`+
			`"status":"","uid":"15374","userdom":":all:"}}},`, dn, ip)
		fmt.Fprintf(&b, `{"tagAnnotation":{"attributes":{"childAction":"","dn":"%[1]s/annotationKey-[aci-sync]","extMngdBy":"",`+
			`"key":"aci-sync","lcOwn":"local","modTs":"2023-05-04T16:02:00.972-04:00","status":"","uid":"15374",`+
			`"userdom":":all:","value":"c1 %[1]s"}}}`, dn)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// BenchmarkDecodeReply is what news of one subnet costs, and a page of what is read.
func BenchmarkDecodeReply(b *testing.B) {
	for _, n := range []int{1, 5_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := subnets(n)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				rep, err := aci.DecodeReply(bytes.NewReader(data))
				if err != nil || !rep.Complete() {
					b.Fatalf("%d objects, %v", len(rep.Objects), err)
				}
			}
		})
	}
}
