//go:build apiserver

package helm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	// namespace is one that admits restricted pods only.
	namespace = "pgbridge"
	// token is the administrator's, on this machine and for this test.
	token = "let-me-in"
	// patience is how long a server may take to start on a busy machine.
	patience = 3 * time.Minute
)

// places are where objects of a kind are made.
var places = map[string]string{
	"Namespace": "/api/v1/namespaces", "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
	"ConfigMap": "/api/v1/namespaces/%s/configmaps", "Secret": "/api/v1/namespaces/%s/secrets",
	"Service": "/api/v1/namespaces/%s/services", "ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts",
	"Pod": "/api/v1/namespaces/%s/pods", "Deployment": "/apis/apps/v1/namespaces/%s/deployments",
	"StatefulSet": "/apis/apps/v1/namespaces/%s/statefulsets", "Job": "/apis/batch/v1/namespaces/%s/jobs",
	"PodDisruptionBudget": "/apis/policy/v1/namespaces/%s/poddisruptionbudgets",
	"NetworkPolicy":       "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
}

// TestAnAPIServerTakesEveryObject has a real kube-apiserver, with its validation and its
// admission, look at what the chart and the base render, and at the pods that controllers
// would make of it: make check-apiserver builds it, and names the folder. Objects of the
// Prometheus operator are none of Kubernetes' own.
func TestAnAPIServerTakesEveryObject(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("PGBRIDGE_TEST_APISERVER")
	if folder == "" {
		t.Fatal("PGBRIDGE_TEST_APISERVER is not set: run make check-apiserver")
	}
	s := startAPIServer(t, folder)
	s.make(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}}})
	s.make(t, object{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1, "metadata": map[string]any{"name": "high"}})
	all := variants()
	for name, values := range all {
		s.takes(t, name, mustRender(t, values))
	}
	kustomized, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), base)
	if err != nil {
		t.Fatal(err)
	}
	text, err := kustomized.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	s.takes(t, base, parse(t, base, string(text)))
	t.Logf("%d objects were taken", s.taken)
	if s.taken < 40 {
		t.Errorf("%d objects were taken: this test looks at nothing", s.taken)
	}

	container := func(more map[string]any) object {
		c := map[string]any{"name": "c", "image": "i"}
		for key, value := range more {
			c[key] = value
		}
		return object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "bad"}, "spec": map[string]any{"containers": []any{c}}}
	}
	for reason, bad := range map[string]object{
		"unknown field":                     container(map[string]any{"imagee": "i"}),
		"violates PodSecurity \"restricted": container(nil),
	} {
		if status, answer := s.post(t, bad, "?dryRun=All&fieldValidation=Strict"); status < 400 || !strings.Contains(answer, strings.ReplaceAll(reason, `"`, `\"`)) {
			t.Errorf("a pod that is to be refused for %q: %d %s", reason, status, answer)
		}
	}
}

// apiServer is a kube-apiserver of its own.
type apiServer struct {
	url    string
	client *http.Client
	taken  int
}

func startAPIServer(t *testing.T, folder string) *apiServer {
	t.Helper()
	dir := t.TempDir()
	etcd, peer, port := freePort(t), freePort(t), freePort(t)
	store := fmt.Sprintf("http://127.0.0.1:%d", etcd)
	launch(t, filepath.Join(folder, "etcd"), "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+store, "--advertise-client-urls="+store,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peer), fmt.Sprintf("--initial-advertise-peer-urls=http://127.0.0.1:%d", peer),
		fmt.Sprintf("--initial-cluster=default=http://127.0.0.1:%d", peer))
	key, tokens := filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens.csv")
	write(t, key, signingKey(t))
	write(t, tokens, []byte(token+",admin,1,system:masters\n"))
	launch(t, filepath.Join(folder, "kube-apiserver"), "--etcd-servers="+store, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir="+filepath.Join(dir, "certs"), "--token-auth-file="+tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--disable-admission-plugins=ServiceAccount") // nobody makes tokens here
	s := &apiServer{url: fmt.Sprintf("https://127.0.0.1:%d", port), client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it signs its certificate itself
	}}}
	s.await(t)
	return s
}

// await waits until the server is ready.
func (s *apiServer) await(t *testing.T) {
	t.Helper()
	last := "nothing"
	again := time.Tick(200 * time.Millisecond)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-again {
		status, answer, err := s.ask(http.MethodGet, "/readyz", nil)
		if err == nil && status == http.StatusOK {
			return
		}
		last = fmt.Sprint(status, " ", answer, " ", err)
	}
	t.Fatalf("kube-apiserver is not ready: %s", last)
}

func (s *apiServer) ask(method, path string, body []byte) (status int, answer string, err error) {
	request, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func (s *apiServer) post(t *testing.T, o object, query string) (status int, answer string) {
	t.Helper()
	place, known := places[o.text("kind")]
	if !known {
		t.Fatalf("no place for %s", o.id())
	}
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(place, "%s") {
		place = fmt.Sprintf(place, namespace)
	}
	status, answer, err = s.ask(http.MethodPost, place+query, body)
	if err != nil {
		t.Fatalf("%s: %v", o.id(), err)
	}
	return status, answer
}

// make makes an object.
func (s *apiServer) make(t *testing.T, o object) {
	t.Helper()
	if status, answer := s.post(t, o, ""); status != http.StatusCreated {
		t.Fatalf("make %s: %d %s", o.id(), status, answer)
	}
}

// takes wants the server to take objects, and the pods of those that make some.
func (s *apiServer) takes(t *testing.T, what string, objects []object) {
	t.Helper()
	for _, o := range objects {
		if strings.HasPrefix(o.text("apiVersion"), "monitoring.coreos.com/") {
			continue
		}
		candidates := []object{o}
		if template, ok := o.at("spec", "template").(map[string]any); ok {
			candidates = append(candidates, podOf(o, template))
		}
		for _, one := range candidates {
			if ns, ok := one.at("metadata", "namespace").(string); ok && ns != namespace {
				delete(one["metadata"].(map[string]any), "namespace") // helm's and kubectl's -n says it
			}
			if status, answer := s.post(t, one, "?dryRun=All&fieldValidation=Strict"); status != http.StatusCreated {
				t.Errorf("%s: %s: %d %s", what, one.id(), status, answer)
				continue
			}
			s.taken++
		}
	}
}

// podOf is the pod that a controller would make of an object's template.
func podOf(o object, template object) object {
	spec := maps.Clone(template.at("spec").(map[string]any))
	claims, _ := o.at("spec", "volumeClaimTemplates").([]any)
	for _, c := range claims {
		volumes, _ := spec["volumes"].([]any)
		spec["volumes"] = append(slices.Clone(volumes), map[string]any{"name": object(c.(map[string]any)).text("metadata", "name"), "emptyDir": map[string]any{}})
	}
	return object{"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": map[string]any{
		"name": o.text("metadata", "name"), "labels": template.at("metadata", "labels"), "annotations": template.at("metadata", "annotations"),
	}}
}

// launch starts a server that ends with the test.
func launch(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text := log.String(); t.Failed() {
			t.Logf("%s: %s", filepath.Base(program), text[max(0, len(text)-4000):])
		}
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// signingKey is for tokens that nobody asks for; the server wants one.
func signingKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
