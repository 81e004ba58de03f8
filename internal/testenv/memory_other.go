//go:build !linux

package testenv

func roomy(string) bool { return false }
