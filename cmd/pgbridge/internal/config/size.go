package config

import (
	"fmt"
	"strconv"
	"strings"
)

// FormatSize writes a size as the file would, in the largest unit that divides it.
func FormatSize(n int) string {
	for _, u := range units() {
		if u.bytes > 1 && n >= int(u.bytes) && int64(n)%u.bytes == 0 {
			return strconv.FormatInt(int64(n)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.Itoa(n)
}

// units are those of sizes; a suffix comes before its own endings.
func units() []unit {
	return []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}
}

type unit struct {
	suffix string
	bytes  int64
}

func parseSize(t string) (int, error) {
	for _, u := range units() {
		digits, ok := strings.CutSuffix(t, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<40)/u.bytes {
			break
		}
		return int(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q: want a size such as 32MiB, 64KiB or 1048576", maskValue(t))
}
