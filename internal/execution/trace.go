package execution

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// timing is what becomes the spans of statements.
type timing struct {
	span tracing.Span // that they are below
	mark time.Time    // when what is being read was sent, or the statement before it was read
	told int          // the statement that the last span is of, from 1
}

// timingOf begins the timing of statements that are sent now; nil: nobody traces them.
func timingOf(ctx context.Context) *timing {
	if span := tracing.Active(ctx); span.Recorded() {
		return &timing{span: span, mark: time.Now()}
	}
	return nil
}

// read adds the span of a statement whose result was read, or refused, and returns
// the error. Statements are sent together and executed one after the other: one's
// time ends where the next one's begins.
func (t *timing) read(c *Call, statement int, err error) error {
	if t == nil {
		return err
	}
	began, failure := t.mark, ""
	t.mark, t.told = time.Now(), statement+1
	if err != nil {
		if failure = postgres.SQLState(err); failure == "" {
			failure = "interrupted"
		}
	}
	script := c.Program.Script
	about := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"),
		attribute.String("pgbridge.script", script.Name),
		attribute.Int("pgbridge.statement", statement+1),
	}
	if !c.Program.AdHoc { // a request's own SQL can hold values
		about = append(about, attribute.String("db.query.text", script.Statements[statement].Text))
	}
	t.span.Past("statement", began, t.mark, trace.SpanKindClient, failure, about...)
	return err
}

// refused adds the span of the statement that an error came from, unless it was
// read.
func (t *timing) refused(c *Call, err error) {
	var at *session.StepError
	if t != nil && errors.As(err, &at) && at.Step.Kind == session.StepRun && t.told != at.Step.Statement+1 {
		_ = t.read(c, at.Step.Statement, err)
	}
}
