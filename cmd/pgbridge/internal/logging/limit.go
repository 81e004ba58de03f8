package logging

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// mostLines of one kind are written within logWindow. Who sends bad requests
	// decides how many there would be.
	mostLines = 200
	logWindow = time.Second
)

// limitedCore writes a bounded number of lines of each kind, that is level and
// message, and says how many it has left out. Debug is for those who want all.
type limitedCore struct {
	zapcore.Core
	kinds *logKinds
}

func limitLog(core zapcore.Core) zapcore.Core {
	return limitedCore{core, &logKinds{kinds: map[logKind]*logCount{}}}
}

// With keeps one count for all loggers that are made of one.
func (c limitedCore) With(fields []zapcore.Field) zapcore.Core {
	return limitedCore{c.Core.With(fields), c.kinds}
}

func (c limitedCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || e.Level > zapcore.DebugLevel && !c.kinds.admit(e) {
		return to
	}
	return to.AddCore(e, c)
}

// Write writes the line, and before it what was left out until then.
func (c limitedCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for kind, n := range c.kinds.leftOut(e.Time) {
		line := zapcore.Entry{Level: kind.level, Time: e.Time, Message: "log lines left out"}
		if err := c.Core.Write(line, []zapcore.Field{zap.String("kind", kind.message), zap.Int64("lines", n)}); err != nil {
			return err
		}
	}
	return c.Core.Write(e, fields)
}

// logKind is constant for a place in the code, so there are few.
type logKind struct {
	level   zapcore.Level
	message string
}

type logCount struct {
	since         time.Time // when the window began
	written, left int64
}

type logKinds struct {
	mu    sync.Mutex // guards kinds
	kinds map[logKind]*logCount
}

// admit reports whether one more line may be written.
func (k *logKinds) admit(e zapcore.Entry) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	kind := logKind{e.Level, e.Message}
	n := k.kinds[kind]
	if n == nil {
		n = &logCount{}
		k.kinds[kind] = n
	}
	if e.Time.Sub(n.since) >= logWindow {
		n.since, n.written = e.Time, 0
	}
	if n.written >= mostLines {
		n.left++
		return false
	}
	n.written++
	return true
}

// leftOut returns how many lines of which kinds were left out, where their window
// is over, and forgets it.
func (k *logKinds) leftOut(now time.Time) map[logKind]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	var left map[logKind]int64
	for kind, n := range k.kinds {
		if n.left == 0 || now.Sub(n.since) < logWindow && n.written >= mostLines {
			continue
		}
		if left == nil {
			left = map[logKind]int64{}
		}
		left[kind], n.left = n.left, 0
	}
	return left
}
