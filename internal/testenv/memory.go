package testenv

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	memoryFolder = "/dev/shm"
	plenty       = 6 << 30 // bytes, free in memory and in its folder
)

// templates is the folder of what outlives the tests, which stays on the disk.
var templates = os.TempDir()

// useMemory makes a folder in memory the one for temporary files. It leaves
// everything as it is where the user chose a folder, or where memory is scarce.
func useMemory() error {
	if os.Getenv("TMPDIR") != "" || !roomy(memoryFolder) {
		return nil
	}
	// Not the folder itself: it is also where PostgreSQL keeps its shared memory.
	dir := filepath.Join(memoryFolder, "pgbridge-tests")
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return fmt.Errorf("make a folder for temporary files: %w", err)
	}
	if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil && !os.IsPermission(err) { // who made it has done so
		return fmt.Errorf("open the folder for temporary files to servers: %w", err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return fmt.Errorf("choose the folder for temporary files: %w", err)
	}
	return nil
}
