// Package apicsim is a simulated Cisco APIC: an http.Handler with a tree of managed
// objects, logins, queries, writes and subscriptions over a WebSocket.
package apicsim
