package bridge

import "time"

// SetPauseLimit makes a bridge that does not run yet drop events when a queue
// stayed full for so long, and not for a minute.
func (b *Bridge) SetPauseLimit(d time.Duration) { b.listener.pauseLimit = d }
