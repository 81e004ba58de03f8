package service

// unseen is how many further requests with the subject of one that was dropped for a
// flood are dropped without a look: they are its owner's. It is few beside what had
// come by then.
const unseen = 1 << 10

// flood is what was dropped last because too much waits for a look. The faster the
// rest of it is got rid of, the fewer messages of others are lost.
type flood struct {
	subject string
	left    int // of unseen
}

// again reports whether a message is more of it.
func (f *flood) again(subject string) bool {
	if f.left == 0 || subject != f.subject {
		return false
	}
	f.left--
	return true
}
