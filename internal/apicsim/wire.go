package apicsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// wireError is an answer that is not a success: an error object with an HTTP status, or
// with html the page of the web server that stands before the APIC.
type wireError struct {
	status     int
	code, text string
	html       bool
}

func (e *wireError) Error() string {
	if e.html {
		return fmt.Sprintf("HTTP %d (HTML)", e.status)
	}
	return fmt.Sprintf("HTTP %d, code %s: %s", e.status, e.code, e.text)
}

// refuse is an error object that travels with HTTP 400, as every code from 1 to 822 does.
// Source: apic-rest.md 3.3 (the HTTP status of 301 was not captured).
func refuse(code int, format string, args ...any) *wireError {
	return &wireError{
		status: http.StatusBadRequest,
		code:   strconv.Itoa(code),
		text:   fmt.Sprintf(format, args...),
	}
}

// denied is an error object whose code is its HTTP status: 401, 403, 405, 503.
func denied(status int, text string) *wireError {
	return &wireError{status: status, code: strconv.Itoa(status), text: text}
}

// webServer is what NGINX answers without asking the APIC: 404, 414, 503 on throttling.
// Source: apic-rest.md 1.3 and 7.
func webServer(status int) *wireError { return &wireError{status: status, html: true} }

// notModeled refuses what a real APIC has and this one has not, so that nobody takes
// silence for an answer.
func notModeled(what string) *wireError {
	return refuse(400, "apic-sim does not model %s", what)
}

// Texts of answers that carry no variable part. Source: apic-rest.md 1.3, 2.6, 6.3.
const (
	textBadPassword = "Username or password is incorrect - FAILED local authentication"
	textNoCookie    = "Need a valid webtoken cookie (named APIC-Cookie) or a signed request with signature " +
		"in the cookie APIC-Request-Signature for all REST API requests"
	textTokenTimeout = "Token was invalid (Error: Token timeout)"
	textNoSocket     = "Subscription request failed, unable to locate opened web socket. " +
		"Please re-login to the application"
	textTooBig     = "Unable to process the query, result dataset is too big"
	textSubTimeout = "Subscription refresh timeout"
)

func (e *wireError) body() []byte {
	if e.html {
		title := strconv.Itoa(e.status) + " " + statusTitle(e.status)
		return []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" +
			title + "</h1></center>\r\n<hr><center>Cisco APIC</center>\r\n</body>\r\n</html>\r\n")
	}
	b := []byte(`{"totalCount":"1","imdata":[{"error":{"attributes":{"code":`)
	b = appendString(b, e.code)
	b = append(b, `,"text":`...)
	b = appendString(b, e.text)
	return append(b, `}}}]}`...)
}

// statusTitle is NGINX's wording where it differs from Go's.
func statusTitle(status int) string {
	switch status {
	case http.StatusServiceUnavailable:
		return "Service Temporarily Unavailable"
	case http.StatusRequestURITooLong:
		return "Request-URI Too Large"
	case http.StatusMethodNotAllowed:
		return "Not Allowed"
	}
	return http.StatusText(status)
}

// envelope puts objects, already encoded and separated by commas, into an answer.
// totalCount is a string, and a subscription id stands between it and imdata.
// Source: apic-rest.md 2.1.
func envelope(total int, subscription string, objects []byte) []byte {
	b := make([]byte, 0, len(objects)+80)
	b = append(b, `{"totalCount":"`...)
	b = strconv.AppendInt(b, int64(total), 10)
	b = append(b, '"')
	if subscription != "" {
		b = append(b, `,"subscriptionId":"`...)
		b = append(b, subscription...)
		b = append(b, '"')
	}
	b = append(b, `,"imdata":[`...)
	b = append(b, objects...)
	return append(b, `]}`...)
}

// form says which attributes an object is written with.
type form uint8

const (
	formTop      form = iota // a result: dn, no rn
	formNested               // a child of rsp-subtree: rn, no dn
	formCreated              // an event: everything, rn empty
	formModified             // an event: what changed
	formDeleted              // an event: the bare minimum
)

// include is rsp-prop-include.
type include uint8

const (
	includeAll include = iota
	includeNaming
	includeConfig
)

// appendAttributes writes the attributes of n in alphabetical order. status is the value
// of the attribute status; changed names the properties of a modified event.
//
// Source: apic-rest.md 2.1 and 6.2; payloads ws_event_*.json.
func appendAttributes(b []byte, n *node, f form, inc include, status string, changed map[int]string) []byte {
	b = append(b, '{')
	first := true
	put := func(name, value string) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		b = appendString(b, value)
	}
	for _, s := range n.class.wire {
		switch s.virtual {
		case "childAction":
			put("childAction", "")
		case "dn":
			if f != formNested {
				put("dn", n.dn)
			}
		case "rn":
			switch f {
			case formNested:
				put("rn", n.rn)
			case formTop:
			case formCreated, formModified, formDeleted:
				put("rn", "")
			}
		case "status":
			put("status", status)
		default:
			p := &n.class.props[s.prop]
			switch {
			case f == formDeleted && p.name != "modTs":
				continue
			case f == formModified && p.name != "modTs":
				if _, ok := changed[s.prop]; !ok {
					continue
				}
			case inc == includeNaming && p.access != naming:
				continue
			case inc == includeConfig && p.access == readOnly:
				continue
			}
			put(p.name, n.attrs[s.prop])
		}
	}
	return append(b, '}')
}

// appendString writes s as a JSON string. Unlike encoding/json it leaves < > & alone.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return appendQuoted(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendQuoted(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return append(b, '"', '"')
	}
	return append(b, q...)
}
