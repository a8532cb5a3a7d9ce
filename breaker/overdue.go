package breaker

// epochs is how many epochs SlowAfter has. One more is kept, since a call may
// begin at the end of its own.
const epochs = 4

// overdue counts the calls under way that have already lasted longer than is
// slow, without a list of them and without a timer. They are counted by the
// epoch that they began in; once a whole epoch lies back that far, so do all
// of its calls.
type overdue struct {
	count uint32 // those of older epochs
	began [epochs + 1]uint32
	epoch int64 // the present one
	next  int64 // when the next one begins
}

// roll moves on to a time. Times never go back.
func (o *overdue) roll(now, step int64) {
	if now < o.next { // a division takes as long as the rest of a call
		return
	}
	epoch := now / step
	for range min(epoch-o.epoch, epochs+1) {
		o.epoch++
		oldest := &o.began[o.epoch%(epochs+1)]
		o.count += *oldest
		*oldest = 0
	}
	o.epoch = epoch
	o.next = (epoch + 1) * step
}

// begin counts a call that begins at the time that was rolled to, and returns
// its epoch.
func (o *overdue) begin() int64 {
	o.began[o.epoch%(epochs+1)]++
	return o.epoch
}

// end takes back a call of an epoch.
func (o *overdue) end(epoch int64) {
	if o.epoch-epoch <= epochs {
		o.began[epoch%(epochs+1)]--
	} else {
		o.count--
	}
}

// clear forgets all calls.
func (o *overdue) clear() {
	o.count = 0
	clear(o.began[:])
}
