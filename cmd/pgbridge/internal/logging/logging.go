// Package logging makes the log: lines for people or for programs, and no more of
// one kind than either can use.
package logging

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

// New writes lines of at least a level to w. The form console is for people, any
// other is JSON; without one w decides, by being a terminal or not. Without a level,
// or with one that there is not, it is info.
func New(w io.Writer, form, level string) *zap.Logger {
	if form == "" && console.IsTerminal(w) {
		form = "console"
	}
	least, err := zapcore.ParseLevel(level)
	if err != nil {
		least = zapcore.InfoLevel // the configuration's faults hold it
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if form == "console" {
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(c)
	}
	// Others have named part of what is logged, and who reads a log does so at a terminal.
	// Within JSON it means the same.
	w = console.Shown(w, true)
	return zap.New(limitLog(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), least)))
}
