package webconsole

import "errors"

var (
	errNoView    = errors.New("there is no such view")
	errNoRunner  = errors.New("no requests are served here")
	errNoChannel = errors.New("there is no such channel")
	errNoScript  = errors.New("there is no such script")
	// errCrowded is what one viewer too many is told.
	errCrowded = errors.New("too many people watch; try again in a moment")
)
