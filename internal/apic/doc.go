// Package apic speaks with a Cisco APIC: session, REST, WebSocket subscriptions, rate limit
// and typed errors. It hides the wire: what comes out is an aci.Update, an aci.MO or an error.
//
// One layer repeats requests: a call that the APIC refuses for its session is repeated once
// after the session was renewed. All else is the caller's to classify and to retry.
//
// Facts about the APIC cite a source or are marked unverified.
package apic
