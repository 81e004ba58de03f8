package session

import "errors"

// errAfter is what a part is told that came behind one after which the session was not
// as it should be.
var errAfter = errors.New("what was sent before has left the session another")

// EndPart ends what is one transaction's: what was sent since the last part's end. What
// makes the session a clean one follows it, as for [Pipeline.Finish], and a sync of its
// own. A pipeline of parts is one round trip, and ends with FinishParts.
func (p *Pipeline) EndPart() {
	p.clean()
	p.Session.request.addSync()
	p.parts = append(p.parts, len(p.steps))
}

// FinishParts sends all parts and reads their results, those of each part by its reader.
// done is told of every part in turn how it ended. A part counts only where all before
// it have left the session clean: of another the error is not nil, though it may have
// been executed. So this is for transactions that may be done once more. The pipeline is
// closed afterwards, and the session may be in a failed transaction.
func (p *Pipeline) FinishParts(reader func(part int) Reader, done func(part int, err error)) {
	defer p.Close()
	defer p.read()
	parts := p.parts
	err := p.Session.request.send(p.answers.stopped, p.Session.Conn)
	if err != nil {
		for i := range parts {
			done(i, err)
		}
		return
	}
	from, well := 0, true
	for i, to := range parts {
		read := reader(i)
		if !well {
			read = func(Step, any) error { return nil }
		}
		p.left = leftBehind{}
		err := p.resultsOf(from, to, read)
		var at *StepError
		switch {
		case !well:
			err = errAfter
		case errors.As(err, &at) && at.Step.cleaning && Reported(err):
			err = nil
		}
		if well { // from then on the session is not trusted
			p.Session.judge(p.left)
			well = !p.Session.used
		}
		done(i, err)
		from = to
	}
}
