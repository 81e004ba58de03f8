package helm_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/lint"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const base = "../kustomize/base"

// TestSameAsKustomize renders the chart with the configuration in the Kustomize
// base, and wants the same objects.
func TestSameAsKustomize(t *testing.T) {
	t.Parallel()
	config, err := os.ReadFile(filepath.Join(base, "pgbridge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Config map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(config, &values.Config); err != nil {
		t.Fatal(err)
	}
	kustomized, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), base)
	if err != nil {
		t.Fatal(err)
	}
	text, err := kustomized.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	want := byID(t, parse(t, base, string(text)))
	got := byID(t, slices.DeleteFunc(mustRender(t, asYAML(t, values)), isHook))
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[id], want[id]) {
			t.Errorf("%s is\n%s\nwant, from kustomize,\n%s", id, asYAML(t, got[id]), asYAML(t, want[id]))
		}
	}
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("the chart has %q, want %q", g, w)
	}
}

func isHook(o object) bool { return o.at("metadata", "annotations", "helm.sh/hook") != nil }

// byID drops what only Helm says, and decodes the configuration in the ConfigMap,
// which people write with comments and Helm without.
func byID(t *testing.T, objects []object) map[string]object {
	t.Helper()
	found := map[string]object{}
	for _, o := range objects {
		if labels, ok := o.at("metadata", "labels").(map[string]any); ok {
			for _, own := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
				delete(labels, own)
			}
		}
		if annotations, ok := o.at("spec", "template", "metadata", "annotations").(map[string]any); ok {
			delete(annotations, "checksum/config")
		}
		if data, ok := o.at("data").(map[string]any); ok && o.text("kind") == "ConfigMap" {
			for name, text := range data {
				var decoded any
				if err := yaml.UnmarshalStrict([]byte(text.(string)), &decoded); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				data[name] = decoded
			}
		}
		found[o.id()] = o
	}
	return found
}

func TestLint(t *testing.T) {
	t.Parallel()
	for name, values := range variants() {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(values), &given); err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.All(chartFolder, given, "default", true).Messages {
			t.Errorf("%s: %s", name, m)
		}
	}
}

// variants are values that use every option.
func variants() map[string]string {
	return map[string]string{
		"defaults": "",
		"everything": `
fullnameOverride: bridge
replicas: 3
image: {repository: registry.example.com/pgbridge, digest: "sha256:` + strings.Repeat("a", 64) + `", pullSecrets: [{name: registry}]}
config:
  channels: {orders: {delivery: jetstream}, "Legacy.Channel": {envelope: json, notify: true}}
  jobs: {concurrency: 4}
  sql: true
  queue: {bytes: 1GiB}
  requests: {bytes: 67108864}
  stop: {grace: 1m30s}
  http: 0.0.0.0:9090
scripts:
  transfer.sql: "SELECT 1"
  orders_search.sql: "SELECT 3"
  orders/search.sql: |
    -- Finds orders.
    SELECT @id::int;
  orders/by_day/all.sql: "SELECT 2"
secret: {create: true, data: {postgres-password: secret, nats.creds: "line\nline"}}
migrate: {enabled: true, postgresUrl: "postgres://owner@db/app", natsUrl: "nats://admin@nats", args: [--set, prefix=shop], env: [{name: PGPASSWORD, value: x}]}
env: [{name: PGBRIDGE_LOG_LEVEL, value: debug}]
envFrom: [{secretRef: {name: more}}]
volumes: [{name: tls, secret: {secretName: tls, defaultMode: 0440}}]
volumeMounts: [{name: tls, mountPath: /run/secrets/tls, readOnly: true}]
annotations: {a: b}
podAnnotations: {c: d}
podLabels: {e: f}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: only, operator: Exists}]
priorityClassName: high
topologySpreadConstraints: [{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]
serviceAccount: {annotations: {g: h}}
service: {annotations: {i: j}}
podDisruptionBudget: {maxUnavailable: 50%}
networkPolicy: {from: [], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 5432}]}]}
metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}, prometheusRule: {enabled: true, labels: {release: prometheus}}, dashboard: {enabled: true, annotations: {grafana_folder: pgbridge}}}
natsServer: {enabled: true, authSecret: users, storage: {storageClassName: fast}}
`,
		"flat scripts, pod monitor": `
scripts: {transfer.sql: "SELECT 1", account.sql: "SELECT @id::int"}
config: {channels: {orders: {}}, nats: {url: [nats://a:4222, nats://b:4222], creds: null}}
metrics: {podMonitor: {enabled: true, interval: 1m}, annotations: false}
migrate: {enabled: true, secretName: owner}
resources: {limits: {cpu: "2"}}
`,
		"as little as can be": `
service: {enabled: false}
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
serviceAccount: {create: false}
resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}
metrics: {annotations: false}
`,
	}
}

// TestEveryOptionIsKubernetes decodes strictly what each option renders, with the
// types of the oldest and the newest Kubernetes, and has pgbridge look at the
// configuration with the scripts where the pod has them.
func TestEveryOptionIsKubernetes(t *testing.T) {
	t.Parallel()
	var all []object
	for name, values := range variants() {
		objects := mustRender(t, values)
		all = append(all, objects...)
		t.Run(name, func(t *testing.T) {
			for _, o := range objects {
				switch o.text("kind") {
				case "ServiceMonitor":
					as[monitoringv1.ServiceMonitor](t, o)
				case "PodMonitor":
					as[monitoringv1.PodMonitor](t, o)
				case "PrometheusRule":
					as[monitoringv1.PrometheusRule](t, o)
				case "Deployment", "StatefulSet", "Job":
					pod := object(o.at("spec", "template", "spec").(map[string]any))
					isRestricted(t, o.id(), pod)
					isConfigured(t, objects, pod)
				case "Pod":
					pod := object(o.at("spec").(map[string]any))
					isRestricted(t, o.id(), pod)
					isConfigured(t, objects, pod)
				}
			}
		})
	}
	unknown := object{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"replica": 1}}
	for _, modfile := range []string{"go.mod", "oldest.mod"} {
		if err := decode(t, modfile, all); err != nil {
			t.Error(err)
		}
		if decode(t, modfile, []object{unknown}) == nil {
			t.Errorf("%s: a field that no pod has was decoded", modfile)
		}
	}
}

// isRestricted holds a pod to the restricted standard.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/
func isRestricted(t *testing.T, id string, pod object) {
	t.Helper()
	want := map[string]any{"runAsNonRoot": true, "runAsUser": 65532., "runAsGroup": 65532., "fsGroup": 65532., "seccompProfile": map[string]any{"type": "RuntimeDefault"}}
	if got := pod.at("securityContext"); !reflect.DeepEqual(got, any(want)) {
		t.Errorf("%s: the pod's securityContext is %v, want %v", id, got, want)
	}
	if pod.at("automountServiceAccountToken") != false {
		t.Errorf("%s: the pod gets a token", id)
	}
	want = map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}}}
	for _, c := range pod.at("containers").([]any) {
		if got := object(c.(map[string]any)).at("securityContext"); !reflect.DeepEqual(got, any(want)) {
			t.Errorf("%s: the container's securityContext is %v, want %v", id, got, want)
		}
	}
}

// isConfigured lays out the ConfigMaps of a pod as the kubelet would.
func isConfigured(t *testing.T, objects []object, pod object) {
	t.Helper()
	root, folders := t.TempDir(), map[string]string{}
	for _, c := range pod.at("containers").([]any) {
		for _, m := range object(c.(map[string]any)).at("volumeMounts").([]any) {
			mount := object(m.(map[string]any))
			folders[mount.text("name")] = filepath.Join(root, mount.text("mountPath"))
		}
	}
	for _, v := range pod.at("volumes").([]any) {
		volume := object(v.(map[string]any))
		if name := volume.text("configMap", "name"); name != "" {
			layOut(t, folders[volume.text("name")], find(t, objects, "ConfigMap "+name), volume.at("configMap", "items"))
		}
	}
	config := filepath.Join(root, "etc/pgbridge/pgbridge.yaml")
	text, err := os.ReadFile(config)
	if os.IsNotExist(err) {
		return // not a pod of pgbridge
	}
	if err != nil {
		t.Fatal(err)
	}
	local := strings.ReplaceAll(string(text), "scripts: /", "scripts: "+root+"/")
	if err := os.WriteFile(config, []byte(local), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, config)
}

func layOut(t *testing.T, folder string, configMap object, items any) {
	t.Helper()
	paths := map[string]string{}
	if chosen, ok := items.([]any); ok {
		for _, i := range chosen {
			item := object(i.(map[string]any))
			paths[item.text("key")] = item.text("path")
		}
	}
	data := configMap.at("data").(map[string]any)
	for key := range paths {
		if data[key] == nil {
			t.Errorf("%s has no key %s", configMap.id(), key)
		}
	}
	for key, text := range data {
		path := key
		if len(paths) > 0 {
			path = paths[key]
		}
		file := filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text.(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesAreRefused has the schema and the templates say what is wrong.
func TestValuesAreRefused(t *testing.T) {
	t.Parallel()
	for values, reason := range map[string]string{
		`replicas: two`:                                                           "/replicas",
		`replicaCount: 2`:                                                         "replicaCount",
		`image: {tag: latest}`:                                                    "/image/tag",
		`image: {digest: abc}`:                                                    "/image/digest",
		`config: {postgres: {url: ""}}`:                                           "/config/postgres/url",
		`config: {postgres: {urll: x}}`:                                           "urll",
		`config: {queue: {bytes: 32 megabytes}}`:                                  "/config/queue/bytes",
		`config: {stop: {grace: 25}}`:                                             "/config/stop/grace",
		`config: {http: "127.0.0.1:8080"}`:                                        "/config/http",
		`config: {channels: {orders: {delivery: kafka}}}`:                         "/config/channels/orders/delivery",
		`config: {nats: {embedded: true}}`:                                        "/config/nats/embedded",
		`config: {log: {level: loud}}`:                                            "/config/log/level",
		`config: {chanels: {}}`:                                                   "chanels",
		`scripts: {orders.search.sql: "SELECT 1"}`:                                "orders.search.sql",
		`scripts: {../etc.sql: "SELECT 1"}`:                                       "../etc.sql",
		`scripts: {a.sql: ""}`:                                                    "/scripts/a.sql",
		`scripts: {a.sql: "` + strings.Repeat("x", 1_000_001) + `"}`:              "more than a ConfigMap holds",
		`secret: {data: {a/b: x}}`:                                                "/secret/data",
		`podDisruptionBudget: {maxUnavailable: 0}`:                                "/podDisruptionBudget/maxUnavailable",
		`env: [PGBRIDGE_LOG_LEVEL=debug]`:                                         "/env/0",
		`metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}`: "scrape every pod",
		`{service: {enabled: false}, metrics: {serviceMonitor: {enabled: true}}}`: "needs service.enabled",
		`natsServer: {enabled: true}`:                                             "natsServer.authSecret",
		`natsServer: {storage: {size: 10GB}}`:                                     "/natsServer/storage/size",
	} {
		_, err := render(t, values)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.100s: %v, want a reason with %s", values, err, reason)
		}
	}
}

// TestAlertsAndDashboardAreTheFiles compares what the chart brings with what the
// alerts' and the dashboard's own tests look at.
func TestAlertsAndDashboardAreTheFiles(t *testing.T) {
	t.Parallel()
	objects := mustRender(t, "metrics: {prometheusRule: {enabled: true}, dashboard: {enabled: true}}")
	for _, pair := range []struct {
		file string
		got  any
	}{
		{"../prometheus/alerts.yaml", find(t, objects, "PrometheusRule pgbridge").at("spec")},
		{"../grafana/pgbridge.json", parse(t, "dashboard", find(t, objects, "ConfigMap pgbridge-dashboard").text("data", "pgbridge.json"))[0]},
	} {
		text, err := os.ReadFile(pair.file)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		if err := yaml.UnmarshalStrict(text, &want); err != nil {
			t.Fatal(err)
		}
		if asYAML(t, pair.got) != asYAML(t, want) {
			t.Errorf("the chart has another %s: copy it to pgbridge/files", pair.file)
		}
	}
}

// TestPodsFollowTheConfiguration looks at what the templates reckon.
func TestPodsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]struct {
		memory string
		grace  float64
	}{
		"": {"352Mi", 40},
		"config: {queue: {bytes: 1GiB}, stop: {grace: 1m30s}}":                                {"2592Mi", 105},
		"config: {queue: {bytes: 1048576}, requests: {bytes: 8192KiB}, stop: {grace: 500ms}}": {"192Mi", 15},
		"resources: {limits: {memory: 1Gi}}":                                                  {"1Gi", 40},
	} {
		pod := object(find(t, mustRender(t, values), "Deployment pgbridge").at("spec", "template", "spec").(map[string]any))
		container := object(pod.at("containers").([]any)[0].(map[string]any))
		if got := container.text("resources", "limits", "memory"); got != want.memory {
			t.Errorf("%s: the memory limit is %s, want %s", values, got, want.memory)
		}
		if got := pod.at("terminationGracePeriodSeconds"); got != want.grace {
			t.Errorf("%s: the pod has %v s to end, want %v", values, got, want.grace)
		}
	}
}

// TestOnlyChannelsAreTakenOverLive wants other pods for any change but that of
// channels and of what scripts hold.
func TestOnlyChannelsAreTakenOverLive(t *testing.T) {
	t.Parallel()
	pods := func(values string) string {
		text, err := json.Marshal(find(t, mustRender(t, values), "Deployment pgbridge").at("spec", "template"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := pods(`scripts: {a.sql: "SELECT 1"}`)
	if pods(`{scripts: {a.sql: "SELECT 2", b.sql: "SELECT 1"}, config: {channels: {orders: {}}}}`) != before {
		t.Error("another channel and another script replace the pods")
	}
	if pods(`{scripts: {a.sql: "SELECT 1"}, config: {jobs: true}}`) == before {
		t.Error("jobs leave the pods as they are, which do not take them over")
	}
}

// TestNamesAreOfTheRelease renders two releases for one namespace.
func TestNamesAreOfTheRelease(t *testing.T) {
	t.Parallel()
	ids := func(release string) []string {
		objects, err := renderAs(t, release, variants()["everything"][len("\nfullnameOverride: bridge"):])
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, o := range objects {
			ids = append(ids, o.id())
			if name := o.text("metadata", "name"); len(name) > 63 {
				t.Errorf("%s: the name has %d bytes, want 63 at the most", name, len(name))
			}
		}
		return ids
	}
	shop := ids("shop")
	for _, id := range ids(strings.Repeat("lab-", 13)[:51]) {
		if slices.Contains(shop, id) {
			t.Errorf("both releases have %s", id)
		}
	}
}
