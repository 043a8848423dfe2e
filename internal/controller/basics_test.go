package controller_test

import (
	"testing"
	"time"
)

func TestAWorkloadAppearsChangesAndGoes(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")

		w.unpod("10.0.0.1")
		w.pods("web", "10.0.0.3")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.2* 10.0.0.3*")

		w.undeploy("web", "10.0.0.2", "10.0.0.3")
		w.sleep(time.Second)
		w.want()
	})
}
