// Command decode reads objects as YAML and wants each to be one that Kubernetes
// knows, every field of it: strictly, as the API server does with fieldValidation.
// go.mod has the types of the newest version of Kubernetes, oldest.mod those of the
// oldest one that the manifests are for.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(input io.Reader) error {
	text, err := io.ReadAll(bufio.NewReader(input))
	if err != nil {
		return err
	}
	var faults []error
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if strings.TrimSpace(document) != "" {
			faults = append(faults, decode([]byte(document)))
		}
	}
	return errors.Join(faults...)
}

func decode(document []byte) error {
	var kind struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	into := typed(kind.APIVersion + " " + kind.Kind)
	if into == nil {
		return fmt.Errorf("no type for %s %s", kind.APIVersion, kind.Kind)
	}
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		return fmt.Errorf("%s %s: %w", kind.Kind, kind.Name, err)
	}
	return nil
}

func typed(kind string) any {
	return map[string]any{
		"v1 ConfigMap":                       &corev1.ConfigMap{},
		"v1 Pod":                             &corev1.Pod{},
		"v1 Secret":                          &corev1.Secret{},
		"v1 Service":                         &corev1.Service{},
		"v1 ServiceAccount":                  &corev1.ServiceAccount{},
		"apps/v1 Deployment":                 &appsv1.Deployment{},
		"apps/v1 StatefulSet":                &appsv1.StatefulSet{},
		"batch/v1 Job":                       &batchv1.Job{},
		"networking.k8s.io/v1 NetworkPolicy": &networkingv1.NetworkPolicy{},
		"policy/v1 PodDisruptionBudget":      &policyv1.PodDisruptionBudget{},
	}[kind]
}
