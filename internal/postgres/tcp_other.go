//go:build !linux

package postgres

import "time"

const hasUserTimeout = false

func setUserTimeout(uintptr, time.Duration) error { return nil }
