// Package kustomize_test checks that the manifests are what Kubernetes takes,
// restricted, and true to the configuration in them. It is a module of its own,
// because nothing else needs Kubernetes' types.
package kustomize_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const base = "base"

// kustomization is every field of a kustomization.yaml that ours uses.
type kustomization struct {
	metav1.TypeMeta    `json:",inline"`
	Resources          []string `json:"resources"`
	ConfigMapGenerator []struct {
		Name    string   `json:"name"`
		Files   []string `json:"files"`
		Options struct {
			Labels                map[string]string `json:"labels"`
			DisableNameSuffixHash bool              `json:"disableNameSuffixHash"`
		} `json:"options"`
	} `json:"configMapGenerator"`
	Images []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
}

// settings is what the manifests have to agree with.
type settings struct {
	Postgres struct {
		PasswordFile string `json:"password_file"`
	} `json:"postgres"`
	NATS struct {
		Creds string `json:"creds"`
	} `json:"nats"`
	Queue    sized `json:"queue"`
	Requests sized `json:"requests"`
	Stop     struct {
		Grace string `json:"grace"`
	} `json:"stop"`
	HTTP string `json:"http"`
}

type sized struct {
	Bytes string `json:"bytes"`
}

func (s sized) mebibytes(t *testing.T) int {
	t.Helper()
	digits, found := strings.CutSuffix(s.Bytes, "MiB")
	n, err := strconv.Atoi(digits)
	if !found || err != nil {
		t.Fatalf("%q bytes, want MiB", s.Bytes)
	}
	return n
}

// manifests is the base, decoded.
type manifests struct {
	kustomization kustomization
	config        settings
	account       corev1.ServiceAccount
	deployment    appsv1.Deployment
	service       corev1.Service
	budget        policyv1.PodDisruptionBudget
	policy        networkingv1.NetworkPolicy
}

func load(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{}
	strict(t, "kustomization.yaml", &m.kustomization)
	if err := yaml.Unmarshal(read(t, "pgbridge.yaml"), &m.config); err != nil {
		t.Fatal(err)
	}
	for _, file := range m.kustomization.Resources {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(read(t, file), &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 ServiceAccount":
			strict(t, file, &m.account)
		case "apps/v1 Deployment":
			strict(t, file, &m.deployment)
		case "v1 Service":
			strict(t, file, &m.service)
		case "policy/v1 PodDisruptionBudget":
			strict(t, file, &m.budget)
		case "networking.k8s.io/v1 NetworkPolicy":
			strict(t, file, &m.policy)
		default:
			t.Fatalf("%s: no test knows %s %s", file, kind.APIVersion, kind.Kind)
		}
	}
	return m
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(base, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func strict(t *testing.T, file string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(read(t, file), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func (m *manifests) pod() corev1.PodSpec { return m.deployment.Spec.Template.Spec }

func (m *manifests) container(t *testing.T) corev1.Container {
	t.Helper()
	if n := len(m.pod().Containers); n != 1 {
		t.Fatalf("%d containers, want 1", n)
	}
	return m.pod().Containers[0]
}

func TestEveryFileIsUsed(t *testing.T) {
	t.Parallel()
	m := load(t)
	used := append([]string{"kustomization.yaml"}, m.kustomization.Resources...)
	for _, g := range m.kustomization.ConfigMapGenerator {
		used = append(used, g.Files...)
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(used, e.Name()) {
			t.Errorf("kustomization.yaml does not use %s", e.Name())
		}
	}
	if tag := m.kustomization.Images[0].NewTag; !regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`).MatchString(tag) {
		t.Errorf("the image's tag is %q, want a version", tag)
	}
	if got, want := m.kustomization.Images[0].Name, m.container(t).Image; got != want {
		t.Errorf("kustomization.yaml replaces the image %q, the Deployment has %q", got, want)
	}
}

func TestNamesAgree(t *testing.T) {
	t.Parallel()
	m := load(t)
	labels := m.deployment.Spec.Template.Labels
	selectors := map[string]map[string]string{
		"Deployment":          m.deployment.Spec.Selector.MatchLabels,
		"Service":             m.service.Spec.Selector,
		"PodDisruptionBudget": m.budget.Spec.Selector.MatchLabels,
		"NetworkPolicy":       m.policy.Spec.PodSelector.MatchLabels,
	}
	for _, c := range m.pod().TopologySpreadConstraints {
		selectors["spread over "+c.TopologyKey] = c.LabelSelector.MatchLabels
	}
	for what, selector := range selectors {
		if len(selector) == 0 {
			t.Errorf("%s selects everything", what)
		}
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("%s selects %s=%s, the pods have %q", what, key, value, labels[key])
			}
		}
	}
	if got := m.pod().ServiceAccountName; got != m.account.Name {
		t.Errorf("service account %q, want %q", got, m.account.Name)
	}
	if *m.deployment.Spec.Replicas < 2 {
		t.Errorf("%d replicas, want 2 at least", *m.deployment.Spec.Replicas)
	}
}

// TestPodIsRestricted holds the pod to the restricted standard.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	m := load(t)
	pod, c := m.pod(), m.container(t)
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("the pod shares a namespace of its host")
	}
	for what, ok := range map[string]bool{
		"runAsNonRoot":                       isTrue(pod.SecurityContext.RunAsNonRoot),
		"runAsUser":                          pod.SecurityContext.RunAsUser != nil && *pod.SecurityContext.RunAsUser == 65532,
		"seccompProfile":                     pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"readOnlyRootFilesystem":             isTrue(c.SecurityContext.ReadOnlyRootFilesystem),
		"allowPrivilegeEscalation":           c.SecurityContext.AllowPrivilegeEscalation != nil && !*c.SecurityContext.AllowPrivilegeEscalation,
		"privileged":                         c.SecurityContext.Privileged == nil,
		"drop ALL":                           slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"add":                                len(c.SecurityContext.Capabilities.Add) == 0,
		"the pod's automount of a token":     isFalse(pod.AutomountServiceAccountToken),
		"the account's automount of a token": isFalse(m.account.AutomountServiceAccountToken),
	} {
		if !ok {
			t.Errorf("%s is not as the restricted standard wants it", what)
		}
	}
	for _, v := range pod.Volumes {
		if v.ConfigMap == nil && v.Secret == nil {
			t.Errorf("volume %s is neither a ConfigMap nor a Secret", v.Name)
		}
	}
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

func TestPortsExist(t *testing.T) {
	t.Parallel()
	m := load(t)
	c := m.container(t)
	wants := map[string]intstr.IntOrString{
		"startup probe":   c.StartupProbe.HTTPGet.Port,
		"liveness probe":  c.LivenessProbe.HTTPGet.Port,
		"readiness probe": c.ReadinessProbe.HTTPGet.Port,
	}
	for _, p := range m.service.Spec.Ports {
		wants["service "+p.Name] = p.TargetPort
	}
	for what, port := range wants {
		i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool {
			return p.Name == port.StrVal || p.ContainerPort == port.IntVal
		})
		if i < 0 {
			t.Errorf("%s: the container has no port %s", what, port.String())
		}
	}
	port := intstr.FromInt32(c.Ports[0].ContainerPort)
	if ports := m.policy.Spec.Ingress[0].Ports; len(ports) != 1 || ports[0].Port.StrVal != c.Ports[0].Name {
		t.Errorf("the NetworkPolicy is for %v, want %s", ports, c.Ports[0].Name)
	}
	if got, want := m.config.HTTP, "0.0.0.0:"+port.String(); got != want {
		t.Errorf("http = %s, want %s: probes come from outside the pod", got, want)
	}
	if got := m.deployment.Spec.Template.Annotations["prometheus.io/port"]; got != port.String() {
		t.Errorf("scrapers are sent to port %s, want %s", got, port.String())
	}
	if live, ready := c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path; live != "/healthz" || ready != "/readyz" {
		t.Errorf("probes look at %s and %s, want /healthz and /readyz", live, ready)
	}
}

func TestLimitsLeaveRoom(t *testing.T) {
	t.Parallel()
	m := load(t)
	grace, err := time.ParseDuration(m.config.Stop.Grace)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(*m.pod().TerminationGracePeriodSeconds) * time.Second; got < grace+10*time.Second {
		t.Errorf("the pod has %s to end, stop.grace is %s: want 10 s more", got, grace)
	}
	queue, requests := m.config.Queue.mebibytes(t), m.config.Requests.mebibytes(t)
	limits := m.container(t).Resources.Limits
	if got, want := limits.Memory().Value()>>20, int64(48+2*queue+requests*3/2)*9/8; got < want {
		t.Errorf("the memory limit is %d MiB, want at least %d", got, want)
	}
}

func TestFilesAreMounted(t *testing.T) {
	t.Parallel()
	m := load(t)
	mounts := map[string]string{} // folder → ConfigMap or Secret
	for _, mount := range m.container(t).VolumeMounts {
		i := slices.IndexFunc(m.pod().Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if i < 0 {
			t.Fatalf("no volume %s", mount.Name)
		}
		if v := m.pod().Volumes[i]; v.Secret != nil {
			mounts[mount.MountPath] = "Secret " + v.Secret.SecretName
		} else {
			mounts[mount.MountPath] = "ConfigMap " + v.ConfigMap.Name
		}
		if mount.SubPath != "" {
			t.Errorf("%s is mounted by subPath, which does not follow changes", mount.MountPath)
		}
	}
	for file, want := range map[string]string{
		m.config.Postgres.PasswordFile: "Secret pgbridge",
		m.config.NATS.Creds:            "Secret pgbridge",
		commandOf(t)[2]:                "ConfigMap " + m.kustomization.ConfigMapGenerator[0].Name,
	} {
		if got := mounts[path.Dir(file)]; got != want {
			t.Errorf("%s comes from %q, want %q", file, got, want)
		}
	}
}

// commandOf returns what the image runs: serve -c FILE.
func commandOf(t *testing.T) []string {
	t.Helper()
	var command []string
	line := regexp.MustCompile(`(?m)^CMD (.*)$`).FindSubmatch(dockerfile(t))
	if line == nil {
		t.Fatal("Dockerfile has no CMD")
	}
	if err := yaml.Unmarshal(line[1], &command); err != nil || len(command) != 3 {
		t.Fatalf("CMD %s: want [serve, -c, FILE]", line[1])
	}
	return command
}

func dockerfile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
