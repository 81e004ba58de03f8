// Package prometheus_test evaluates the alert rules as Prometheus does. It is a
// module of its own, for it alone needs Prometheus.
package prometheus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// units is a file in promtool's form, as far as alerts_test.yaml uses it.
type units struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []unit
}

type unit struct {
	Name        string
	Interval    model.Duration
	InputSeries []struct{ Series, Values string } `yaml:"input_series"`
	Alerts      []struct {
		EvalTime  model.Duration `yaml:"eval_time"`
		Alertname string
		Exp       []struct {
			Labels map[string]string `yaml:"exp_labels"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

func load(t *testing.T) units {
	t.Helper()
	content, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all units
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// alerting returns the rules of a file, which Prometheus has to accept.
func alerting(t *testing.T, file string) []*rules.AlertingRule {
	t.Helper()
	p := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, p, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 {
		t.FailNow()
	}
	var all []*rules.AlertingRule
	for _, group := range groups.Groups {
		for _, r := range group.Rules {
			expr, err := p.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels),
				labels.FromMap(r.Annotations), labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler)))
		}
	}
	return all
}

// firing evaluates the rules up to a time and returns the labels of the alerts that
// fire then, by the rules' names.
func firing(t *testing.T, u unit, all []*rules.AlertingRule, every, at time.Duration) map[string][]string {
	t.Helper()
	input := "load " + time.Duration(u.Interval).String() + "\n"
	for _, s := range u.InputSeries {
		input += fmt.Sprintf("  %s %s\n", s.Series, s.Values)
	}
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 0, 1_000_000), promqltest.LoadedStorage(t, input))
	for now := time.Unix(0, 0); !now.After(time.Unix(0, 0).Add(at)); now = now.Add(every) {
		for _, r := range all {
			if _, err := r.Eval(context.Background(), 0, now, query, nil, 0); err != nil {
				t.Fatalf("%s: %v", r.Name(), err)
			}
		}
	}
	fire := map[string][]string{}
	for _, r := range all {
		r.ForEachActiveAlert(func(a *rules.Alert) {
			if a.State == rules.StateFiring {
				fire[r.Name()] = append(fire[r.Name()], a.Labels.String())
			}
			if a.Annotations.Get("summary") == "" || bytes.Contains([]byte(a.Annotations.Get("summary")), []byte("error")) {
				t.Errorf("%s: its summary is %q", r.Name(), a.Annotations.Get("summary"))
			}
		})
	}
	return fire
}

// TestAlerts holds for each test that exactly the alerts fire that it names, and that
// each rule is named by one.
func TestAlerts(t *testing.T) {
	all := load(t)
	named := map[string]bool{}
	for _, u := range all.Tests {
		t.Run(u.Name, func(t *testing.T) {
			rules := alerting(t, all.RuleFiles[0])
			want := map[string][]string{}
			at := 50 * time.Minute
			for _, a := range u.Alerts {
				named[a.Alertname] = true
				at = time.Duration(a.EvalTime)
				for _, e := range a.Exp {
					e.Labels["alertname"] = a.Alertname
					want[a.Alertname] = append(want[a.Alertname], labels.FromMap(e.Labels).String())
				}
			}
			got := firing(t, u, rules, time.Duration(all.EvaluationInterval), at)
			for _, r := range rules {
				if !slices.Equal(got[r.Name()], want[r.Name()]) {
					t.Errorf("%s: %v fire, want %v", r.Name(), got[r.Name()], want[r.Name()])
				}
			}
		})
	}
	for _, r := range alerting(t, all.RuleFiles[0]) {
		if !named[r.Name()] {
			t.Errorf("no test raises %s", r.Name())
		}
	}
	if len(named) == 0 {
		t.Error("nothing was tested: " + fmt.Sprint(slices.Collect(maps.Keys(named))))
	}
}

// TestDashboardQueries holds that Prometheus can read every query of the dashboard.
func TestDashboardQueries(t *testing.T) {
	content, err := os.ReadFile("../grafana/pgbridge.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	p := parser.NewParser(parser.Options{})
	queries, ids := 0, map[int]bool{}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] {
			t.Errorf("%s: its id is another panel's", panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			queries++
			expr := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "n", "$job", "j").Replace(target.Expr)
			if _, err := p.ParseExpr(expr); err != nil {
				t.Errorf("%s: %v", panel.Title, err)
			}
		}
	}
	if queries < 40 {
		t.Errorf("%d queries: this test looks at nothing", queries)
	}
}
