// Package telemetry sends spans to an OpenTelemetry collector, where the standard
// OTEL_ variables ask for it.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// stopTimeout is how long a collector may take for the last spans.
const stopTimeout = 3 * time.Second

// Telemetry is where spans go. A nil *Telemetry takes none.
type Telemetry struct{ provider *sdk.TracerProvider }

// New reads the environment, "name=value" each, and returns nil if nobody asks for
// spans: an endpoint, or the exporter otlp, has to be named. Everything else, the
// sampler for one, is read by the library from the process's own environment. It
// connects to nothing; what cannot be sent is logged. The error names a variable.
func New(environ []string, version string, log *zap.Logger) (*Telemetry, error) {
	on, err := wanted(environ)
	if err != nil || !on {
		return nil, err
	}
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare the export of spans: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "pgbridge"), attribute.String("service.version", version),
	), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were not sent", zap.Error(err)) }))
	return &Telemetry{sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))}, nil
}

// Provider returns what makes spans; nil if there are none.
func (t *Telemetry) Provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t.provider
}

// Stop sends what is left, for 3 s at most.
func (t *Telemetry) Stop(log *zap.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("the last spans may be lost", zap.Error(err))
	}
}

// wanted says whether spans are to be sent.
func wanted(environ []string) (bool, error) {
	of := func(name string) string {
		value := ""
		for _, v := range environ {
			if rest, ok := strings.CutPrefix(v, name+"="); ok {
				value = strings.TrimSpace(rest)
			}
		}
		return value
	}
	if strings.EqualFold(of("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch exporter := of("OTEL_TRACES_EXPORTER"); {
	case exporter == "none":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER: %q: spans are sent by otlp, or none are", exporter)
	case exporter == "" && of("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return false, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch protocol := of(name); protocol {
		case "":
			continue
		case "http/protobuf":
			return true, nil
		default:
			return false, fmt.Errorf("%s: %q: only http/protobuf is spoken, on port 4318 of most collectors", name, protocol)
		}
	}
	return true, nil
}
