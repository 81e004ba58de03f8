package spelling

import (
	"strings"
	"testing"
)

func TestMeant(t *testing.T) {
	t.Parallel()
	scripts := []string{"account", "export_orders", "orders.all", "orders.search", "transfer"}
	for word, want := range map[string]string{
		"acount": "account", "tranfser": "transfer", "export_order": "export_orders", "orders_all": "orders.all",
		"nowhere": "", "": "", "x": "", strings.Repeat("account", 100): "",
	} {
		if got, ok := Meant(word, scripts); ok != (want != "") || ok && got != want {
			t.Errorf("Meant(%q) = %q, %t; want %q", word, got, ok, want)
		}
	}
	if _, ok := Meant("a", nil); ok {
		t.Error("something was meant where there is nothing")
	}
	if got := Nearest("nats.uri", []string{"prefix", "nats.url"}); got != "nats.url" {
		t.Errorf("Nearest() = %q", got)
	}
}
