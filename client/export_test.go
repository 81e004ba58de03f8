package client

import "time"

// SetSilence shortens the time without an answer after which it is doubted.
func (c *Client) SetSilence(d time.Duration) { c.requests.Silence = d }

// Waiting is how many events wait to be taken.
func (s *Subscription) Waiting() int { return len(s.messages) }
