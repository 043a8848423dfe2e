// Package apicsim is a simulated Cisco APIC: an http.Handler with a tree of managed
// objects, logins, queries, writes and subscriptions over a WebSocket. cmd/apic-sim runs it
// as a program.
//
//	sim := apicsim.New(apicsim.Options{})
//	defer sim.Close()
//	err := sim.Post("uni", `{"fvTenant":{"attributes":{"name":"T"}}}`)
//	srv := httptest.NewServer(sim)
//
// It follows apic-rest.md, a fact sheet made from public documents, and is stricter than
// convenient: it refuses what a real APIC is not known to accept. It shares no code with
// our client but DN syntax and class names. It starts no goroutine but those of timers and
// open sockets, so it works inside testing/synctest bubbles; Close ends them all.
//
// # Modeled
//
//   - The envelope: strings only, attributes in alphabetical order, dn on results and rn on
//     nested objects, totalCount over all pages; HTML from the web server in front for 404,
//     405, 413, 414 and throttling.
//   - aaaLogin (login domains, gui-token-request with its challenge), aaaRefresh, aaaLogout,
//     aaaListDomains; token and session lifetimes; JWT or opaque tokens; cookie names in any
//     case, with attributes behind them. A refresh gives a new token, and the old one lives
//     on to its own expiry (Options.RefreshRevokes ends it). A session ends with its logout,
//     at the end of its life, or when its newest token expires.
//   - User certificates: signed requests and webtokenSession (User.Certificates).
//   - GET on mo and class, with or without node/, scoped class queries; query-target,
//     target-subtree-class, query-target-filter, rsp-subtree with -class and -filter,
//     rsp-prop-include, rsp-subtree-include=count, order-by, paging, the result limit.
//     A result without order-by comes in an order that changes with every write.
//   - POST and DELETE: object, child or descendant, as tree, by dn, rn or name; status;
//     one transaction, all or nothing, one modTs; the error catalog; rsp-subtree=modified
//     and full. The parser insists on attributes before children and on strings.
//   - Classes polUni, fvTenant, fvCtx, vzBrCP, l3extOut, l3extRsEctx, l3extInstP,
//     l3extSubnet, fvRsProv, fvRsCons, fvRsCustQosPol, tagAnnotation, tagTag, tagInst with
//     their rules; reverse relations fvRtEctx, vzRtProv, vzRtCons; some implicit children;
//     one controller (topSystem, fabricNode, firmwareCtrlrRunning); l3extRsNodeL3OutAtt. Tenants common, infra
//     and mgmt with their VRFs are there from the start and cannot be deleted.
//   - Relations by name to VRFs and contracts, which resolve again when targets come and go;
//     the scope of external EPGs; configSt=applied after Options.DeployDelay.
//   - F0467: with Options.Leafs, one faultInst for each leaf and external EPG that loses a
//     prefix with import-security to another EPG of its VRF; cleared, then deleted. Which EPG
//     loses changes with ReloadLeafs. Faults of other kinds when RaiseFault says so.
//   - Subscriptions: 405 without a socket, lifetimes, refresh-timeout, partial modified
//     events, a deleted event for every object below a deleted one, all ids of a session in
//     one frame, silence about tags (Options.ObserveTags breaks it), the trap of a cookie
//     that stands twice. A reader that does not keep up loses its socket.
//   - Users restricted to tenants, or to reading.
//   - Clusters: Sim.Member is one more APIC with the same fabric and its own sessions.
//
// # For tests
//
// Post, Delete, Seed, Lookup and Dump edit and show the tree without a session. RaiseFault,
// ClearFault, SetState and ReloadLeafs do what only the APIC and its leafs do. Requests
// and Options.RequestLog tell every request in the order of the work, writes with their
// bodies. Stats counts, also the prefixes that two external EPGs of a VRF hold at once, now
// and ever. AddFault, DropEvents, CloseSockets and ExpireSessions make things go wrong, by
// count and never by chance. Control offers all that to scripts.
//
// # Chosen where the truth is not known
//
// The word unverified marks each such place in the code. The choices that matter most:
// status=modified on an absent object is refused with 102 (Options.ModifyCreates); a write
// that changes nothing makes no event and leaves modTs; an unresolved relation is
// missing-target with an empty tDn, and the EPGs below have scope 0; derived changes are
// part of the transaction that caused them; a bare address without mask is refused, an
// empty scope accepted; the objects on the way to what rsp-subtree-class asks for are
// shown; a filter of a subscription is asked about the object as it is after the change;
// a body on GET or DELETE is ignored (its size is in the request log); a token that ends
// without a refresh ends the session and its sockets; of several sockets of a session, a
// subscription belongs to the newest.
//
// # Not modeled
//
//   - XML, time-range, rsp-subtree-include other than count, childAction: refused aloud.
//   - Classes beside those above. Some common ones are known and always empty, so that
//     queries for them succeed; writes of them are refused.
//   - Faults that come by themselves, other than F0467; faultDelegate, health, statistics, audit logs, BGP and what leafs do.
//   - Shards, and so "request requires distributed transaction"; minorities and upgrades, in
//     which members answer reads and refuse writes.
//   - The missed first event below a new parent; events out of order. Use Sim.DropEvents.
package apicsim
