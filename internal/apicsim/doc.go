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
//   - Users as objects: aaaUser with certificates, domains and roles, to be read only; aaaDomainRef
//     in tenants. SetUser changes them. Login domains, expired passwords, and the lock after
//     refused logins (Options.LockAfter).
//   - GET on mo and class, with or without node/, scoped class queries; query-target,
//     target-subtree-class, query-target-filter with every operator and its refusals,
//     rsp-subtree with -class and -filter, rsp-prop-include, order-by several keys, paging,
//     the limits of results and of the request line. rsp-subtree-include knows count, faults,
//     no-scoped and required.
//     A result without order-by comes in an order that changes with every write.
//   - POST and DELETE: object, child or descendant, as tree, by dn, rn or name; status;
//     one transaction, all or nothing, one modTs; the error catalog; rsp-subtree=modified
//     and full. The parser insists on attributes before children and on strings.
//   - Classes with their rules, each in a table of its theme (classes_*.go):
//     policy: polUni, fvTenant, fvCtx, vzBrCP, tagAnnotation, tagTag, tagInst;
//     L3Outs: l3extOut, l3extRsEctx, l3extRsL3DomAtt, l3extDomP, l3extInstP, l3extSubnet,
//     fvRsProv, fvRsCons, fvRsCustQosPol;
//     their nodes and interfaces: l3extLNodeP, l3extRsNodeL3OutAtt, l3extLoopBackIfP,
//     l3extInfraNodeP, l3extLIfP, l3extRsPathL3OutAtt, l3extVirtualLIfP, l3extRsDynPathAtt,
//     l3extMember, l3extIp;
//     BGP: bgpExtP, bgpPeerP with a password that is written and never shown, bgpAsP,
//     bgpLocalAsnP, bgpRsPeerPfxPol, bgpPeerPfxPol;
//     reverse relations fvRtEctx, vzRtProv, vzRtCons, and some implicit children. Tenants
//     common, infra and mgmt with their VRFs are there from the start and cannot be deleted.
//   - Nodes: the controllers and leafs as fabricNode and topSystem, firmwareCtrlrRunning,
//     firmwareRunning, infraWiNode. Options.Version shows in them and in every login.
//   - Relations by name to VRFs, contracts and prefix policies, which resolve again when
//     targets come and go; the scope of external EPGs; configSt=applied after
//     Options.DeployDelay; ConfigIssues of BGP peers of nodes without a loopback.
//   - F0467: with Options.Leafs, one faultInst for each leaf and external EPG that loses a
//     prefix with import-security to another EPG of its VRF that is deployed on that leaf,
//     with its faultDelegate below the EPG; cleared, then deleted. ReloadLeafs lets another
//     EPG win. Faults of other kinds, of an EPG or of a leaf as a whole, when Seed says so.
//   - Subscriptions: 405 without a socket, lifetimes, refresh-timeout, partial modified
//     events, a deleted event for every object below a deleted one, all ids of a session in
//     one frame, silence about tags (Options.ObserveTags breaks it), the trap of a cookie
//     that stands twice. A reader that does not keep up loses its socket.
//   - Users restricted to tenants, or to reading; the login tells their domains and tenants.
//   - Clusters: Sim.Member is one more APIC with the same fabric and its own sessions.
//
// # For tests
//
// Post, Delete, Seed, Lookup and Dump edit and show the tree without a session; Seed also
// writes what only the fabric makes, such as bgpPeerEntry, and read-only properties. Requests
// and Options.RequestLog tell every request in the order of the work, writes with their
// bodies. Stats counts, also the prefixes that two external EPGs of a VRF hold at once, now
// and ever.
//
// AddFault, DropEvents, CloseSockets, MuteSockets, ExpireSubscriptions and ExpireSessions make
// things go wrong, by count and never by chance, and Stats counts what they did: pages of HTML and
// error objects instead of an answer, or after the work was done; a throttle; slow answers and
// slow bodies; connections that are cut or hang; a totalCount without objects; 202; events that
// are lost; sockets that close or fall silent; subscriptions and sessions that end. What follows
// from Options is no fault: LoginRate, MaxResult, lifetimes, Latency, EventDelay. Control offers
// all that to scripts, for each member, and the flags --fault and --drop-events from the start.
//
// # Chosen where the truth is not known
//
// The word unverified marks each such place in the code. The choices that matter most:
// status=modified on an absent object is refused with 102 (Options.ModifyCreates); a write
// that changes nothing makes no event and leaves modTs; an unresolved relation is
// missing-target with an empty tDn, and the EPGs below have scope 0; derived changes are
// part of the transaction that caused them; a bare address without mask is refused, an
// empty scope accepted; addresses of interfaces have a mask; targets of relations have the
// form of their class, but need not be there; faults are part of query-target=subtree and
// children, and of rsp-subtree only on request; a filter, like order-by, names no class
// that the result cannot hold; a filter of a subscription is asked about the object as it
// is after the change; an L3Out without node profiles is deployed on all leafs;
// a body on GET or DELETE is ignored (its size is in the request log); a token that ends
// without a refresh ends the session and its sockets; of several sockets of a session, a
// subscription belongs to the newest.
//
// # Not modeled
//
//   - XML, time-range, childAction, the other words of rsp-subtree-include (relations, health
//     and so on) and combinations of which nothing is known; lt, gt and the like for
//     enumerations and flags whose order is not known: all refused aloud.
//   - Classes beside those above. Some common ones are known and always empty, so that
//     queries for them succeed; writes of them are refused, and their DNs as if there were
//     no such RN. App users and requestAppToken.
//   - Faults that come by themselves, other than F0467; health, statistics, audit logs, clocks of nodes, and what leafs
//     do: no BGP session comes up by itself, and no interface.
//   - Shards, and so "request requires distributed transaction"; minorities and upgrades, in
//     which members answer reads and refuse writes. Use Sim.AddFault on POST.
//   - The missed first event below a new parent; events out of order. Use Sim.DropEvents.
package apicsim
