package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Keys of annotations.
const (
	// Annotation is the key by which a workload opts in; its value is JSON.
	Annotation = "aci.haystacknetworks.com/l3o"
	// DefaultAnnotation, on a namespace, is the same for workloads without one of their own.
	DefaultAnnotation = "aci.haystacknetworks.com/l3o-default"
	// IgnoreAnnotation opts a workload out when it is "true".
	IgnoreAnnotation = "aci.haystacknetworks.com/ignore"
	// PausedAnnotation stops all writes for a workload while it is "true".
	PausedAnnotation = "aci.haystacknetworks.com/paused"
)

// Expose says which addresses of a workload are claimed.
type Expose struct{ Pods, Services bool }

// ParseExpose reads a list of "pods" and "services", each at most once, at least one.
func ParseExpose(list []string) (Expose, error) {
	var e Expose
	for _, s := range list {
		set := &e.Pods
		switch s {
		case "pods":
		case "services":
			set = &e.Services
		default:
			return Expose{}, fmt.Errorf("expose knows pods and services, not %q", s)
		}
		if *set {
			return Expose{}, fmt.Errorf("expose names %s twice", s)
		}
		*set = true
	}
	if e == (Expose{}) {
		return Expose{}, errors.New("expose is empty")
	}
	return e, nil
}

// List is what ParseExpose reads.
func (e Expose) List() []string {
	var list []string
	if e.Pods {
		list = append(list, "pods")
	}
	if e.Services {
		list = append(list, "services")
	}
	return list
}

// Target is what a valid annotation asks for. A nil Expose means the configured default.
type Target struct {
	EPG    aci.ExtEPG
	Expose *Expose
}

// ParseTarget reads the value of the annotation. It is strict, because a typing error must
// never move or withdraw anything: keys are exact and stand once, names satisfy the APIC's
// rule, and nothing follows the object. The error is one line that says what is wrong.
func ParseTarget(value string) (Target, error) {
	fields, err := object(value)
	if err != nil {
		return Target{}, err
	}
	var t Target
	var missing []string
	for _, name := range []struct {
		key string
		to  *string
	}{{"tenant", &t.EPG.Tenant}, {"l3out", &t.EPG.L3Out.Name}, {"epg", &t.EPG.Name}} {
		raw, ok := fields[name.key]
		if !ok {
			missing = append(missing, name.key)
			continue
		}
		if *name.to, err = text(raw); err == nil {
			err = aci.CheckName(*name.to)
		}
		if err != nil {
			return Target{}, fmt.Errorf("%s: %w", name.key, err)
		}
		delete(fields, name.key)
	}
	if raw, ok := fields["expose"]; ok {
		if t.Expose, err = exposeOf(raw); err != nil {
			return Target{}, err
		}
		delete(fields, "expose")
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		return Target{}, fmt.Errorf("key %.40q is unknown; the keys are tenant, l3out, epg and expose", key)
	}
	if len(missing) > 0 {
		return Target{}, fmt.Errorf("%s missing", strings.Join(missing, ", "))
	}
	return t, nil
}

func exposeOf(raw json.RawMessage) (*Expose, error) {
	var items []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return nil, errors.New(`expose: is not a list such as ["pods", "services"]`)
	}
	var list []string
	for _, item := range items {
		s, err := text(item)
		if err != nil {
			return nil, fmt.Errorf("expose: %w", err)
		}
		list = append(list, s)
	}
	e, err := ParseExpose(list)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// object splits one JSON object into its members. encoding/json alone would take the last
// of two equal keys and match keys whatever their case.
func object(value string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(strings.NewReader(value))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, errors.New(`is not a JSON object such as {"tenant":"T", "l3out":"O", "epg":"E"}`)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		key := tok.(string) // the decoder accepts nothing else here
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("key %.40q stands twice", key)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, notJSON(err)
		}
		fields[key] = bytes.TrimSpace(raw)
	}
	if _, err := dec.Token(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something behind the JSON object")
	}
	return fields, nil
}

// notJSON says what the decoder has against a value.
func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is not JSON: its end is missing")
	}
	return fmt.Errorf("is not JSON: %w", err)
}

// text reads a JSON string; numbers, null and the like are not one.
func text(raw json.RawMessage) (string, error) {
	var s string
	switch {
	case bytes.HasPrefix(raw, []byte("{")):
		return "", errors.New("an object is not a JSON string")
	case bytes.HasPrefix(raw, []byte("[")):
		return "", errors.New("a list is not a JSON string")
	case !bytes.HasPrefix(raw, []byte(`"`)) || json.Unmarshal(raw, &s) != nil:
		return "", fmt.Errorf("%.40s is not a JSON string", raw)
	}
	return s, nil
}

// String is the list form, as flags and annotations write it.
func (e Expose) String() string {
	var s []string
	if e.Pods {
		s = append(s, "pods")
	}
	if e.Services {
		s = append(s, "services")
	}
	return strings.Join(s, ",")
}
