package apicsim

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Control is a handler for scripts: faults and a look inside, without a login. It must
// only be reachable by who may do anything.
//
//	POST   /sockets/close           cut every WebSocket
//	POST   /sockets/mute            leave every WebSocket open and silent
//	POST   /sessions/expire         end every session
//	POST   /subscriptions/expire    end every subscription
//	POST   /events/drop?n=1&match=  lose the next n events of objects whose DN fits match
//	POST   /faults                  arm a Fault (JSON)
//	DELETE /faults                  disarm all
//	POST   /mo/{dn}                 write a body, as Post
//	DELETE /mo/{dn}                 delete, as Delete
//	POST   /seed                    write bodies as the fabric itself, as Seed
//	POST   /users                   change or add a user, as SetUser: name, password, expired, loginDomain,
//	                                tenants, readOnly, certificates (name to PEM); all of him is given
//	POST   /leafs/reload            as ReloadLeafs
//	GET    /dump/{dn}               the tree, as Dump
//	GET    /requests?after=0        the request log, one JSON object a line
//	GET    /stats                   counts
//	       /node/{id}/…             all that with another member of the cluster: 1 is the first
func (s *Sim) Control() http.Handler {
	mux := http.NewServeMux()
	done := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("POST /sockets/close", func(w http.ResponseWriter, _ *http.Request) {
		s.CloseSockets()
		done(w, nil)
	})
	mux.HandleFunc("POST /sockets/mute", func(w http.ResponseWriter, _ *http.Request) {
		s.MuteSockets()
		done(w, nil)
	})
	mux.HandleFunc("POST /subscriptions/expire", func(w http.ResponseWriter, _ *http.Request) {
		s.ExpireSubscriptions()
		done(w, nil)
	})
	mux.HandleFunc("POST /sessions/expire", func(w http.ResponseWriter, _ *http.Request) {
		s.ExpireSessions()
		done(w, nil)
	})
	mux.HandleFunc("POST /events/drop", func(w http.ResponseWriter, r *http.Request) {
		n, err := number(r, "n", 1)
		if err == nil {
			err = s.DropEvents(n, r.URL.Query().Get("match"))
		}
		done(w, err)
	})
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&f)
		if err == nil {
			err = s.AddFault(f)
		}
		done(w, err)
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		done(w, nil)
	})
	mux.HandleFunc("POST /mo/{dn...}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = s.Post(r.PathValue("dn"), string(body))
		}
		done(w, err)
	})
	mux.HandleFunc("DELETE /mo/{dn...}", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Delete(r.PathValue("dn")))
	})
	mux.HandleFunc("POST /seed", func(w http.ResponseWriter, r *http.Request) {
		bodies, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = s.Seed(bodies)
		}
		done(w, err)
	})
	mux.HandleFunc("POST /users", func(w http.ResponseWriter, r *http.Request) {
		u, err := decodeUser(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			s.SetUser(u)
		}
		done(w, err)
	})
	mux.HandleFunc("POST /leafs/reload", func(w http.ResponseWriter, _ *http.Request) {
		s.ReloadLeafs()
		done(w, nil)
	})
	mux.HandleFunc("GET /dump/{dn...}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, s.Dump(r.PathValue("dn")))
	})
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, r *http.Request) {
		after, err := number(r, "after", 0)
		if err != nil {
			done(w, err)
			return
		}
		enc := json.NewEncoder(w)
		for _, q := range s.Requests(after) {
			if enc.Encode(q) != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.Stats())
	})
	mux.HandleFunc("/node/{id}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		m := s.memberByID(id)
		if m == nil {
			http.Error(w, "no member "+id, http.StatusNotFound)
			return
		}
		http.StripPrefix("/node/"+id, m.Control()).ServeHTTP(w, r)
	})
	return mux
}

// decodeUser reads a user as the control port takes him.
func decodeUser(r io.Reader) (User, error) {
	var in struct {
		Name, Password, LoginDomain string
		Expired, ReadOnly           bool
		Tenants                     []string
		Certificates                map[string]string // PEM by name
	}
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return User{}, err
	}
	name := text(patternName, 1, 64)
	if _, code := name.check(in.Name); code != 0 {
		return User{}, fmt.Errorf("%q is not the name of a user", in.Name)
	}
	u := User{
		Name: in.Name, Password: in.Password, LoginDomain: in.LoginDomain, Expired: in.Expired, ReadOnly: in.ReadOnly,
		Tenants: in.Tenants, Certificates: map[string]*rsa.PublicKey{},
	}
	for name, pem := range in.Certificates {
		key, err := ParseCertificate([]byte(pem))
		if err != nil {
			return User{}, fmt.Errorf("certificate %s: %w", name, err)
		}
		u.Certificates[name] = key
	}
	return u, nil
}

func (s *Sim) memberByID(id string) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range *s.members {
		if strconv.Itoa(m.id) == id {
			return m
		}
	}
	return nil
}

func number(r *http.Request, name string, otherwise int) (int, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return otherwise, nil
	}
	return strconv.Atoi(v)
}
