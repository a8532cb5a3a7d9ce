package sqlstore

import "github.com/tgfleet/tgfleet/tenant"

// MaxPage is how many bytes a page of a list holds at most, unless its first row
// alone is larger. Records may have a megabyte of metadata each, and whoever
// asks for 500 of them wants 500 that are like most.
const MaxPage = 8 << 20

// PageRoom tells when a page is full. The zero PageRoom is that of an empty
// page.
type PageRoom struct{ taken int }

// Take reports whether a row of that size belongs to the page too.
func (r *PageRoom) Take(size int) bool {
	first := r.taken == 0
	r.taken += max(size, 1)
	return first || r.taken <= MaxPage
}

// SizeOf returns about how many bytes a record takes.
func SizeOf(r *tenant.Record) int {
	n := len(r.ID) + len(r.Username) + len(r.Name) + len(r.Reason) + len(r.Health)
	for k, v := range r.Metadata {
		n += len(k) + len(v)
	}
	return n
}
