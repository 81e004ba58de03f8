package main

// clientFlags say which server a client talks to.
type clientFlags struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file (or PGBRIDGE_CONFIG)."`
	NATS   string `name:"nats" placeholder:"URL" help:"NATS server (or PGBRIDGE_NATS_URL)."`
}

// load returns the configuration as far as a client needs it.
func (f clientFlags) load(p *process) (*config, error) {
	return configFlags{Config: f.Config, NATS: f.NATS}.sources(p).loadClient()
}
