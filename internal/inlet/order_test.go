package inlet

import (
	"errors"
	"testing"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	for kinds, want := range map[string]bool{
		"RRRSSKZ": true, "TDDCZ": true, "TCZ": true, "1tTZ": true, "1tnZ": true, "1tT2TDDsZ": true, "2DCZ": true,
		"2TDEZ": true, "1tn2nCZ": true, "TDCTDCZ": true, "HddcCZ": true, "IZ": true, "EZ": true,
		"TZ": false, "TDZ": false, "2DZ": false, "1tT2TZ": false, "1tn2TZ": false, "TDCTZ": false,
	} {
		var o order
		var err error
		for _, kind := range []byte(kinds) {
			if err == nil {
				err = o.next(kind)
			}
		}
		if (err == nil) != want || err != nil && !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v, want %t", kinds, err, want)
		}
	}
}
