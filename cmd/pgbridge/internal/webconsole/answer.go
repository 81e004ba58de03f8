package webconsole

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"go.uber.org/zap"
)

func statusOf(err error) int {
	switch {
	case errors.Is(err, errNoView), errors.Is(err, errNoScript), errors.Is(err, errNoChannel), errors.Is(err, errNoRunner):
		return http.StatusNotFound
	case errors.Is(err, errCrowded):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadRequest
}

func (c *Console) answer(rw http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		c.config.Logger.Error("a view of the console cannot be encoded", zap.Error(err))
		c.refuse(rw, http.StatusInternalServerError, errors.New("it cannot be encoded"))
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(body)
}

// refuse answers with an error, as plain text that no browser takes for a page.
func (c *Console) refuse(rw http.ResponseWriter, status int, err error) {
	http.Error(rw, err.Error(), status)
}
