package bridge

import "fmt"

// ConfigError is one fault of a configuration.
type ConfigError struct {
	Key string // the setting, as in a configuration file: channels.orders.subject
	Err error
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

// faults collects every fault of a configuration, so that one look is enough.
type faults []error

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, &ConfigError{Key: key, Err: fmt.Errorf(format, args...)})
}
