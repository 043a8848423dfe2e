package apic_test

import (
	"crypto/rsa"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// What the reference says about a new certificate makes one that works.
func TestRecipe_for_a_certificate_makes_one_that_works(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl here")
	}
	page, err := os.ReadFile("../../docs/reference/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile("(?s)```sh\n(.*?)```").FindSubmatch(page)
	if recipe == nil {
		t.Fatal("the page has no recipe")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", string(recipe[1]))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cert, err := os.ReadFile(filepath.Join(dir, "aci-sync.crt"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := apicsim.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "aci-sync.key")
	if err := apic.CheckPrivateKey(file); err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T, w *world) {
		w.start(apicsim.Options{Users: []apicsim.User{
			{Name: user, Certificates: map[string]*rsa.PublicKey{certName: public}},
		}}, signing(file))
		w.read()
	})
}
